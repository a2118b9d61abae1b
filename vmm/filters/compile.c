/*
 * Runs during the build: makes seccomp filters of the lists of rules.h (generate.c), and
 * prints them as C for confine.c, with the names of all system calls for its messages,
 * by libseccomp. With --list it prints "kind call" for each entry instead, with " rarely"
 * behind entries that tests need not exercise.
 *
 * The build fails if a list exceeds its limit or no filter can be made of it.
 */
#include <seccomp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/util.h"
#include "vmm/filters/generate.h"
#include "vmm/filters/lists.h"

#define NAMES_MAX 512 /* numbers beyond are printed as such */

static void __attribute__((noreturn)) fail(const char *list, const char *what)
{
	fprintf(stderr, "filters: the list of %s: %s\n", list, what);
	exit(1);
}

static bool is_first(const struct filter_list *list, size_t i)
{
	for (size_t j = 0; j < i; j++)
		if (list->rules[j].nr == list->rules[i].nr)
			return false;
	return true;
}

static unsigned count_calls(const struct filter_list *list)
{
	unsigned n = 0;

	for (size_t i = 0; i < list->num; i++)
		n += is_first(list, i);
	return n;
}

static void print_filter(unsigned kind)
{
	const struct filter_list *list = &filter_lists[kind];
	static struct filter_program program;
	const char *error = filter_generate(&program, list->rules, list->num);

	if (error)
		fail(list->name, error);
	if (count_calls(list) > list->max)
		fail(list->name, "has more calls than it may");
	printf("static const struct sock_filter code_%u[] = {\n", kind);
	for (unsigned i = FILTER_CODE_MAX - program.len; i < FILTER_CODE_MAX; i++)
		printf("\t{ 0x%02x, %u, %u, 0x%08x },\n", program.code[i].code, program.code[i].jt, program.code[i].jf,
		       program.code[i].k);
	printf("};\n\n");
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
		const struct filter_list *list = &filter_lists[kind];

		if (!list_only)
			print_filter(kind);
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
		printf("\t{ \"%s\", code_%u, sizeof(code_%u) / sizeof(code_%u[0]) },\n", filter_lists[kind].name, kind,
		       kind, kind);
	printf("};\n");
	return 0;
}
