/*
 * Runs during the build: compiles the lists of rules.h to seccomp filters, by libseccomp,
 * and prints them as C for confine.c, with the names of all system calls for its
 * messages. With --list it prints "kind call" for each entry instead, with " rarely"
 * behind entries that tests need not exercise.
 *
 * The build fails if a list exceeds its limit or libseccomp refuses it.
 */
#include <linux/filter.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/base/util.h"
#include "vmm/filters/rules.h"

#define NAMES_MAX 512 /* numbers beyond are printed as such */
#define CODE_MAX 4096

#define LIST(rules) (rules), MF_ARRAY_SIZE(rules)

static const struct list {
	const char *name;
	const struct filter_rule *rules;
	size_t num;
	unsigned max; /* different calls */
} lists[THREAD_NUM_KINDS] = {
	[THREAD_MAIN] = { "main", LIST(main_rules), 30 },
	[THREAD_IO] = { "io", LIST(io_rules), 16 },
	[THREAD_VSOCK] = { "vsock", LIST(vsock_rules), 22 },
	[THREAD_VCPU] = { "vcpu", LIST(vcpu_rules), 10 },
	[THREAD_PUMP] = { "pump", LIST(pump_rules), 13 },
	[THREAD_UNPACK] = { "unpack", LIST(unpack_rules), 11 },
	[THREAD_OUTER] = { "outer", LIST(outer_rules), 32 },
	[THREAD_LOG] = { "mayfly_log", LIST(log_rules), 9 },
	[THREAD_EXEC] = { "exec", LIST(exec_rules), 22 },
	[THREAD_IO_SYNC] = { "io_sync", LIST(io_sync_rules), 15 },
	[THREAD_IO_WORKER] = { "io_worker", LIST(io_worker_rules), 11 },
	[THREAD_VSOCK_SYNC] = { "vsock_sync", LIST(vsock_sync_rules), 20 },
};

static void __attribute__((noreturn)) fail(const char *list, const char *what)
{
	fprintf(stderr, "filters: the list of %s: %s\n", list, what);
	exit(1);
}

static bool is_first(const struct list *list, size_t i)
{
	for (size_t j = 0; j < i; j++)
		if (list->rules[j].nr == list->rules[i].nr)
			return false;
	return true;
}

static unsigned count_calls(const struct list *list)
{
	unsigned n = 0;

	for (size_t i = 0; i < list->num; i++)
		n += is_first(list, i);
	return n;
}

static void add_rule(scmp_filter_ctx filter, const struct list *list, const struct filter_rule *rule)
{
	struct scmp_arg_cmp cmp[FILTER_ARGS_MAX];
	unsigned n = 0;

	for (; n < FILTER_ARGS_MAX && rule->arg[n].number; n++)
		cmp[n] = (struct scmp_arg_cmp){ .arg = rule->arg[n].number - 1,
						.op = SCMP_CMP_MASKED_EQ,
						.datum_a = rule->arg[n].mask,
						.datum_b = rule->arg[n].value };
	if (seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, rule->nr, n, cmp) < 0)
		fail(list->name, rule->name);
}

static void print_filter(const struct list *list)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_TRAP);
	struct sock_filter code[CODE_MAX];
	int fd = memfd_create("filter", 0);
	ssize_t len;

	if (!filter || fd < 0)
		fail(list->name, "out of memory");
	/* Kill the process: libseccomp's default is the thread alone. */
	if (seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS) < 0)
		fail(list->name, "cannot say what to do with calls of other architectures");
	if (count_calls(list) > list->max)
		fail(list->name, "has more calls than it may");
	/*
	 * A binary tree instead of a list: the kernel finds a call in 3 to 5 steps. It
	 * also runs a new filter for every system call number when it loads the filter; a
	 * tree takes two thirds of that time (main, io and vCPU: 107 us instead of 159).
	 */
	if (seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2) < 0)
		fail(list->name, "cannot be a tree");
	for (size_t i = 0; i < list->num; i++)
		add_rule(filter, list, &list->rules[i]);
	if (seccomp_export_bpf(filter, fd) < 0 || (len = pread(fd, code, sizeof(code), 0)) <= 0 || len == sizeof(code))
		fail(list->name, "does not compile");
	printf("static const struct sock_filter %s_code[] = {\n", list->name);
	for (size_t i = 0; i < (size_t)len / sizeof(code[0]); i++)
		printf("\t{ 0x%02x, %u, %u, 0x%08x },\n", code[i].code, code[i].jt, code[i].jf, code[i].k);
	printf("};\n\n");
	seccomp_release(filter);
	close(fd);
}

static void print_names(void)
{
	printf("/* Of all calls, one behind the other, each with its NUL; empty where a number has none. */\n");
	printf("static const char call_names[] =");
	for (int nr = 0; nr < NAMES_MAX; nr++) {
		char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, nr);

		printf("%s\"%s\\0\"", nr % 4 ? " " : "\n\t", name ? name : "");
		free(name);
	}
	printf(";\n#define CALL_NAMES_NUM %d\n\n", NAMES_MAX);
}

int main(int argc, char **argv)
{
	bool list_only = argc > 1 && !strcmp(argv[1], "--list");

	for (unsigned kind = 0; kind < THREAD_NUM_KINDS; kind++) {
		const struct list *list = &lists[kind];

		if (!list_only)
			print_filter(list);
		for (size_t i = 0; list_only && i < list->num; i++)
			if (is_first(list, i))
				printf("%s %s%s\n", list->name, list->rules[i].name,
				       list->rules[i].rarely ? " rarely" : "");
	}
	if (list_only)
		return 0;
	print_names();
	printf("static const struct filter_code filter_codes[THREAD_NUM_KINDS] = {\n");
	for (unsigned kind = 0; kind < THREAD_NUM_KINDS; kind++)
		printf("\t{ \"%s\", %s_code, sizeof(%s_code) / sizeof(%s_code[0]) },\n", lists[kind].name,
		       lists[kind].name, lists[kind].name, lists[kind].name);
	printf("};\n");
	return 0;
}
