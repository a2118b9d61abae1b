/*
 * The compiled seccomp filters against their lists: an interpreter of BPF, and a model that reads rules.h, asked the same
 * questions. The calls of the lists with their arguments just right and a bit off, and anything at random.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/bpf.h"
#include "vmm/base/util.h"
#include "vmm/filters/lists.h"
#include "vmm/process/confine.h"

#define RANDOM_CALLS 200000
#define FIRST_VALUE 40 /* what the slots hold: 40, 41, ... */

static uint64_t value_of(uint64_t v)
{
	return v - FILTER_SLOT_BASE < FILTER_NUM_SLOTS ? v - FILTER_SLOT_BASE + FIRST_VALUE : v;
}

static bool is_allowed(enum thread_kind kind, const struct seccomp_data *d)
{
	for (size_t i = 0; i < filter_lists[kind].num; i++) {
		const struct filter_rule *rule = &filter_lists[kind].rules[i];
		bool all = rule->nr == d->nr;

		for (unsigned j = 0; all && j < FILTER_ARGS_MAX; j++) {
			const struct filter_arg *a = &rule->arg[j];

			if (a->number)
				all = (d->args[a->number - 1] & a->mask) == value_of(a->value);
		}
		if (all)
			return true;
	}
	return false;
}

struct fixture {
	struct sock_filter code[SECCOMP_CODE_MAX];
	unsigned len;
	enum thread_kind kind;
};

static void complete(struct fixture *f, enum thread_kind kind, enum seccomp_policy policy)
{
	const struct seccomp_code c = confine_code(kind);
	uint32_t value[FILTER_NUM_SLOTS];

	for (unsigned i = 0; i < FILTER_NUM_SLOTS; i++)
		value[i] = FIRST_VALUE + i;
	assert_true(c.len <= SECCOMP_CODE_MAX);
	seccomp_complete(f->code, &c, value, FILTER_NUM_SLOTS, policy);
	f->len = c.len;
	f->kind = kind;
}

static void expect_same(const struct fixture *f, const struct seccomp_data *d)
{
	uint32_t want = is_allowed(f->kind, d) ? SECCOMP_RET_ALLOW : SECCOMP_RET_TRAP;
	uint32_t got = interpret(f->code, f->len, d);

	if (got != want)
		fail_msg("kind %d, call %d (%llx, %llx, %llx): 0x%x, not 0x%x", f->kind, d->nr,
			 (unsigned long long)d->args[0], (unsigned long long)d->args[1], (unsigned long long)d->args[2],
			 got, want);
}

static struct seccomp_data call_of(const struct filter_rule *rule)
{
	struct seccomp_data d = { .nr = rule->nr, .arch = AUDIT_ARCH_X86_64 };

	for (unsigned j = 0; j < FILTER_ARGS_MAX; j++)
		if (rule->arg[j].number)
			d.args[rule->arg[j].number - 1] = value_of(rule->arg[j].value);
	return d;
}

static void test_listed(void **state)
{
	struct fixture f;

	(void)state;
	for (unsigned kind = 0; kind < THREAD_NUM_KINDS; kind++) {
		complete(&f, (enum thread_kind)kind, SECCOMP_POLICY_KILL);
		for (size_t i = 0; i < filter_lists[kind].num; i++) {
			struct seccomp_data d = call_of(&filter_lists[kind].rules[i]);

			assert_int_equal(interpret(f.code, f.len, &d), SECCOMP_RET_ALLOW);
		}
	}
}

/* The call numbers at both ends of each gap between the listed ones, and those that no kernel has. */
static void test_numbers(void **state)
{
	static const uint32_t odd[] = { 0x3fffffff, 0x40000000, 0x7fffffff, 0x80000000, 0xffffffff };
	struct fixture f;

	(void)state;
	for (unsigned kind = 0; kind < THREAD_NUM_KINDS; kind++) {
		complete(&f, (enum thread_kind)kind, SECCOMP_POLICY_KILL);
		for (int nr = 0; nr < 1024; nr++) {
			struct seccomp_data d = { .nr = nr, .arch = AUDIT_ARCH_X86_64 };

			expect_same(&f, &d);
		}
		for (size_t i = 0; i < MF_ARRAY_SIZE(odd); i++) {
			struct seccomp_data d = { .nr = (int)odd[i], .arch = AUDIT_ARCH_X86_64 };

			expect_same(&f, &d);
		}
	}
}

/* One bit of one argument, or of the number, is another. */
static void test_a_bit_off(void **state)
{
	struct fixture f;

	(void)state;
	for (unsigned kind = 0; kind < THREAD_NUM_KINDS; kind++) {
		complete(&f, (enum thread_kind)kind, SECCOMP_POLICY_KILL);
		for (size_t i = 0; i < filter_lists[kind].num; i++) {
			for (unsigned bit = 0; bit < 6 * 64 + 9; bit++) {
				struct seccomp_data d = call_of(&filter_lists[kind].rules[i]);

				if (bit < 6 * 64)
					d.args[bit / 64] ^= 1ULL << bit % 64;
				else
					d.nr ^= 1 << (bit - 6 * 64);
				expect_same(&f, &d);
			}
		}
	}
}

static void test_random(void **state)
{
	struct fixture f;

	(void)state;
	srand(1);
	for (unsigned kind = 0; kind < THREAD_NUM_KINDS; kind++) {
		complete(&f, (enum thread_kind)kind, SECCOMP_POLICY_KILL);
		for (unsigned n = 0; n < RANDOM_CALLS; n++) {
			struct seccomp_data d = { .nr = rand() % 512, .arch = AUDIT_ARCH_X86_64 };

			for (unsigned i = 0; i < 6; i++)
				d.args[i] = rand() % 4 ? (uint64_t)(rand() % 64) :
							 (uint64_t)rand() << 20 ^ (uint64_t)rand();
			expect_same(&f, &d);
		}
	}
}

/* The calls of other architectures have other numbers: none is asked about. */
static void test_other_architectures(void **state)
{
	struct fixture f;

	(void)state;
	for (unsigned kind = 0; kind < THREAD_NUM_KINDS; kind++) {
		complete(&f, (enum thread_kind)kind, SECCOMP_POLICY_KILL);
		for (int nr = 0; nr < 512; nr++) {
			struct seccomp_data d = { .nr = nr, .arch = AUDIT_ARCH_I386 };

			assert_int_equal(interpret(f.code, f.len, &d), SECCOMP_RET_KILL_PROCESS);
			d = (struct seccomp_data){ .nr = nr | 0x40000000, .arch = AUDIT_ARCH_X86_64 }; /* x32 */
			assert_int_not_equal(interpret(f.code, f.len, &d), SECCOMP_RET_ALLOW);
		}
	}
}

/* A number that stands for no slot stays what it is, the first behind the last slot as well. */
static void test_slots(void **state)
{
	static const uint32_t value[] = { 7, 8 };
	const struct sock_filter code[] = {
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 99, 0, 0),	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 100, 0, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 101, 0, 0), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 102, 0, 0),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 100, 0, 0), BPF_STMT(BPF_RET | BPF_K, 100),
	};
	static const uint32_t want[] = { 99, 7, 8, 102, 100, 100 };
	const struct seccomp_code c = { code, MF_ARRAY_SIZE(code), 100 };
	struct sock_filter got[MF_ARRAY_SIZE(code)];

	(void)state;
	seccomp_complete(got, &c, value, MF_ARRAY_SIZE(value), SECCOMP_POLICY_KILL);
	for (size_t i = 0; i < MF_ARRAY_SIZE(code); i++)
		assert_int_equal(got[i].k, want[i]);
}

static void test_log_policy(void **state)
{
	struct seccomp_data d = { .nr = SYS_execve, .arch = AUDIT_ARCH_X86_64 };
	struct fixture f;

	(void)state;
	complete(&f, THREAD_VCPU, SECCOMP_POLICY_LOG);
	assert_int_equal(interpret(f.code, f.len, &d), SECCOMP_RET_LOG);
	d = call_of(&vcpu_rules[0]);
	assert_int_equal(interpret(f.code, f.len, &d), SECCOMP_RET_ALLOW);
}

/* The calls on a ring that exist: it gives up all files, of the thread's own, or one for another. */
static bool gives_up_files(enum thread_kind kind, const struct filter_rule *rule)
{
	if (kind == THREAD_IO_API && rule->nr == SYS_io_uring_register && rule->arg[0].number == 1 &&
	    rule->arg[0].value == FILTER_SLOT_VALUE(SLOT_OWN) && rule->arg[1].number == 2 &&
	    rule->arg[1].value == IORING_REGISTER_FILES_UPDATE && rule->arg[2].number == 4 && rule->arg[2].value == 1)
		return true;
	return (kind == THREAD_IO || kind == THREAD_IO_API) && rule->nr == SYS_io_uring_register &&
	       rule->arg[0].number == 1 && rule->arg[0].value == FILTER_SLOT_VALUE(SLOT_OWN) &&
	       rule->arg[1].number == 2 && rule->arg[1].value == IORING_UNREGISTER_FILES && rule->arg[2].number == 3 &&
	       !rule->arg[2].value;
}

/* The one way to open that exists: without a right to read or write, and not what a symbolic link leads to. */
static bool opens_a_name(enum thread_kind kind, const struct filter_rule *rule)
{
	return (kind == THREAD_VSOCK || kind == THREAD_OUTER || kind == THREAD_VSOCK_SYNC) && rule->nr == SYS_openat &&
	       rule->arg[0].number == 3 && rule->arg[0].mask == UINT32_MAX &&
	       rule->arg[0].value == (O_PATH | O_NOFOLLOW | O_CLOEXEC);
}

/* With the API, an image is opened that exists. */
static bool opens_an_image(enum thread_kind kind, const struct filter_rule *rule)
{
	return kind == THREAD_MAIN_API && rule->nr == SYS_openat && rule->arg[0].number == 3 &&
	       rule->arg[0].mask == UINT32_MAX && !(rule->arg[0].value & (O_CREAT | O_TRUNC | O_WRONLY));
}

/* The main threads may make the process not dumpable, and nothing else by prctl(2). */
static bool leaves_no_core(enum thread_kind kind, const struct filter_rule *rule)
{
	return (kind == THREAD_MAIN || kind == THREAD_MAIN_API || kind == THREAD_MAIN_FORK || kind == THREAD_OUTER ||
		kind == THREAD_EXEC) &&
	       rule->nr == SYS_prctl && rule->arg[0].number == 1 && rule->arg[0].mask == UINT32_MAX &&
	       rule->arg[0].value == PR_SET_DUMPABLE && rule->arg[1].number == 2 && rule->arg[1].mask == UINT64_MAX &&
	       rule->arg[1].value == 0;
}

/* The API's main thread opens the files of a snapshot that a client names, and no symlink there; its child ends with it. */
static bool writes_a_snapshot(enum thread_kind kind, const struct filter_rule *rule)
{
	if (kind != THREAD_MAIN_API)
		return false;
	if (rule->nr == SYS_prctl)
		return rule->arg[0].number == 1 && rule->arg[0].mask == UINT32_MAX &&
		       rule->arg[0].value == PR_SET_PDEATHSIG && rule->arg[1].number == 2 &&
		       rule->arg[1].value == SIGKILL;
	return rule->nr == SYS_openat && rule->arg[0].number == 3 && rule->arg[0].mask == UINT32_MAX &&
	       rule->arg[0].value == (O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC) &&
	       rule->arg[1].number == 4 && rule->arg[1].value == 0600;
}

/* The log of --detach opens files that it makes, by their names in its directory. */
static bool makes_a_log(enum thread_kind kind, const struct filter_rule *rule)
{
	return kind == THREAD_LOG && rule->nr == SYS_openat && rule->arg[0].number == 1 &&
	       rule->arg[0].value == FILTER_SLOT_VALUE(SLOT_OWN) && rule->arg[1].number == 3 &&
	       rule->arg[1].mask == UINT32_MAX &&
	       rule->arg[1].value == (O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW | O_CLOEXEC);
}

/* At a fork, RAM is mapped again; it can be read and written, and nothing can be run there. */
static bool maps_ram(enum thread_kind kind, const struct filter_rule *rule)
{
	return kind == THREAD_MAIN_FORK && rule->nr == SYS_mmap && rule->arg[0].number == 3 &&
	       rule->arg[0].mask == UINT32_MAX && rule->arg[0].value == (PROT_READ | PROT_WRITE) &&
	       rule->arg[1].number == 4 && rule->arg[1].mask == UINT32_MAX && rule->arg[1].value & MAP_PRIVATE &&
	       !(rule->arg[1].value & MAP_SHARED);
}

/* Before the client of a pool has its VM: the record, and what is there already. */
static bool names_a_member(enum thread_kind kind, const struct filter_rule *rule)
{
	return kind == THREAD_CLAIM && rule->nr == SYS_openat && rule->arg[0].number == 3 &&
	       rule->arg[0].mask == UINT32_MAX && rule->arg[0].value & O_CLOEXEC && !(rule->arg[0].value & O_TRUNC) &&
	       (!(rule->arg[0].value & O_CREAT) || rule->arg[0].value & O_EXCL);
}

/* What no list may have, whatever else is put into one. */
static void test_never(void **state)
{
	static const int never[] = { SYS_execve,
				     SYS_execveat,
				     SYS_open,
				     SYS_openat,
				     SYS_openat2,
				     SYS_mmap,
				     SYS_mprotect,
				     SYS_ptrace,
				     SYS_fork,
				     SYS_vfork,
				     SYS_clone3,
				     SYS_io_uring_setup,
				     SYS_io_uring_register,
				     SYS_setns,
				     SYS_unshare,
				     SYS_mount,
				     SYS_bpf,
				     SYS_userfaultfd,
				     SYS_prctl,
				     SYS_perf_event_open,
				     SYS_process_vm_writev,
				     SYS_setuid,
				     SYS_keyctl };

	(void)state;
	for (unsigned kind = 0; kind < THREAD_NUM_KINDS; kind++)
		for (size_t i = 0; i < filter_lists[kind].num; i++)
			for (size_t j = 0; j < MF_ARRAY_SIZE(never); j++)
				assert_true(
					filter_lists[kind].rules[i].nr != never[j] ||
					gives_up_files(kind, &filter_lists[kind].rules[i]) ||
					opens_an_image(kind, &filter_lists[kind].rules[i]) ||
					opens_a_name(kind, &filter_lists[kind].rules[i]) ||
					leaves_no_core(kind, &filter_lists[kind].rules[i]) ||
					makes_a_log(kind, &filter_lists[kind].rules[i]) ||
					maps_ram(kind, &filter_lists[kind].rules[i]) ||
					names_a_member(kind, &filter_lists[kind].rules[i]) ||
					writes_a_snapshot(kind, &filter_lists[kind].rules[i]) ||
					(kind == THREAD_UNPACK && never[j] == SYS_openat)); /* below its directory */
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(confine_call_name(0), "read");
	assert_string_equal(confine_call_name(SYS_openat), "openat");
	assert_string_equal(confine_call_name(SYS_io_uring_setup), "io_uring_setup");
	assert_null(confine_call_name(-1));
	assert_null(confine_call_name(511));
	assert_null(confine_call_name(512));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_listed),	   cmocka_unit_test(test_a_bit_off),
		cmocka_unit_test(test_random),	   cmocka_unit_test(test_other_architectures),
		cmocka_unit_test(test_log_policy), cmocka_unit_test(test_never),
		cmocka_unit_test(test_names),	   cmocka_unit_test(test_slots),
		cmocka_unit_test(test_numbers),
	};

	return cmocka_run_group_tests_name("filters", tests, NULL, NULL);
}
