/* The generator of filters against libseccomp: both get the lists of rules.h, and are asked the same questions. */
#include <linux/audit.h>
#include <seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/bpf.h"
#include "vmm/filters/generate.c" /* not in mayfly: only the build uses it */
#include "vmm/filters/lists.h"

#define QUESTIONS 100000
#define PEER_CODE_MAX 2048 /* instructions of a filter of libseccomp's */

/* The same list by libseccomp. Returns how many instructions it has. */
static unsigned compile_by_libseccomp(const struct filter_list *list, struct sock_filter *code)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_TRAP);
	int fd = memfd_create("filter", 0);
	ssize_t len;

	assert_non_null(filter);
	assert_return_code(seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS), 0);
	for (size_t i = 0; i < list->num; i++) {
		const struct filter_rule *rule = &list->rules[i];
		struct scmp_arg_cmp cmp[FILTER_ARGS_MAX];
		unsigned n = 0;

		for (; n < FILTER_ARGS_MAX && rule->arg[n].number; n++)
			cmp[n] = (struct scmp_arg_cmp){ .arg = rule->arg[n].number - 1,
							.op = SCMP_CMP_MASKED_EQ,
							.datum_a = rule->arg[n].mask,
							.datum_b = rule->arg[n].value };
		assert_return_code(seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, rule->nr, n, cmp), 0);
	}
	assert_return_code(seccomp_export_bpf(filter, fd), 0);
	len = pread(fd, code, PEER_CODE_MAX * sizeof(*code), 0);
	assert_in_range(len, 1, PEER_CODE_MAX * sizeof(*code) - 1);
	seccomp_release(filter);
	close(fd);
	return (unsigned)((size_t)len / sizeof(*code));
}

/* A call that a rule allows, with one bit of an argument changed in half of them; or any call. */
static struct seccomp_data question_about(const struct filter_list *list)
{
	const struct filter_rule *rule = &list->rules[(unsigned)rand() % list->num];
	struct seccomp_data d = { .nr = rule->nr, .arch = AUDIT_ARCH_X86_64 };

	if (rand() % 8 == 0)
		d.nr = rand() % 1024;
	if (rand() % 64 == 0)
		d.arch = AUDIT_ARCH_I386;
	for (unsigned i = 0; i < FILTER_ARGS_MAX; i++)
		if (rule->arg[i].number)
			d.args[rule->arg[i].number - 1] = rule->arg[i].value;
	if (rand() % 2)
		d.args[rand() % 6] ^= 1ULL << rand() % 64;
	return d;
}

static void test_same_and_shorter(void **state)
{
	static struct filter_program program;
	static struct sock_filter peer[PEER_CODE_MAX];

	(void)state;
	srand(1);
	for (unsigned kind = 0; kind < THREAD_NUM_KINDS; kind++) {
		const struct filter_list *list = &filter_lists[kind];
		unsigned len = compile_by_libseccomp(list, peer), allowed = 0;

		assert_null(filter_generate(&program, list->rules, list->num));
		assert_true(program.len < len);
		for (unsigned n = 0; n < QUESTIONS; n++) {
			const struct seccomp_data d = question_about(list);
			uint32_t got = interpret(program.code + FILTER_CODE_MAX - program.len, program.len, &d);

			assert_int_equal(got, interpret(peer, len, &d));
			allowed += got == SECCOMP_RET_ALLOW;
		}
		assert_in_range(allowed, QUESTIONS / 10, QUESTIONS * 9 / 10);
	}
}

/* Lists of which no filter can be made. */
static void test_refused(void **state)
{
	static struct filter_program program;
	struct filter_rule rules[CALLS_MAX + 1] = { 0 };

	(void)state;
	assert_non_null(filter_generate(&program, rules, 0));
	for (int i = 0; i < CALLS_MAX + 1; i++)
		rules[i].nr = i;
	assert_non_null(filter_generate(&program, rules, CALLS_MAX + 1));
	assert_null(filter_generate(&program, rules, CALLS_MAX));
	for (int i = 0; i < RULES_MAX + 1; i++)
		rules[i] = (struct filter_rule){ .nr = 1, .arg = { INT(1, i) } };
	assert_non_null(filter_generate(&program, rules, RULES_MAX + 1));
	assert_null(filter_generate(&program, rules, RULES_MAX));
}

/* What several rules require is tested once, and the rest for each; a rule that fails leads to the next. */
static void test_rules_of_one_call(void **state)
{
	static struct filter_program program;
	const struct filter_rule rules[] = {
		{ .nr = 7, .arg = { INT(1, 3), INT(2, 4), LEN(3, 8) } },
		{ .nr = 7, .arg = { INT(1, 3), LEN(2, 1ULL << 32 | 4) } },
		{ .nr = 7, .arg = { INT(1, 3), BITS(4, 0xf0, 0x20) } },
	};
	static const struct {
		uint64_t args[4];
		uint32_t want;
	} cases[] = {
		{ { 3, 4, 8, 0 }, SECCOMP_RET_ALLOW },
		{ { 3, 1ULL << 32 | 4, 9, 0 }, SECCOMP_RET_ALLOW },
		{ { 3, 5, 8, 0x2f }, SECCOMP_RET_ALLOW },
		{ { 3, 4, 1ULL << 32 | 8, 0 }, SECCOMP_RET_TRAP },
		{ { 3, 2ULL << 32 | 4, 9, 0x3f }, SECCOMP_RET_TRAP },
		{ { 2, 4, 8, 0x20 }, SECCOMP_RET_TRAP },
	};

	(void)state;
	assert_null(filter_generate(&program, rules, MF_ARRAY_SIZE(rules)));
	for (size_t i = 0; i < MF_ARRAY_SIZE(cases); i++) {
		struct seccomp_data d = { .nr = 7, .arch = AUDIT_ARCH_X86_64 };

		memcpy(d.args, cases[i].args, sizeof(cases[i].args));
		assert_int_equal(interpret(program.code + FILTER_CODE_MAX - program.len, program.len, &d),
				 cases[i].want);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_and_shorter),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_rules_of_one_call),
	};

	return cmocka_run_group_tests_name("generate", tests, NULL, NULL);
}
