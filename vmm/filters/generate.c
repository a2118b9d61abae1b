/*
 * The generator makes smaller filters than libseccomp, which matters at each start. The kernel runs a new filter once for
 * every number of a system call, to know which calls it allows whatever their arguments; and it compiles the filter to
 * machine code. Both take time with the filter's length. The filters of main, io and vCPU have 118, 92 and 50
 * instructions; libseccomp's, as trees, had 158, 139 and 89. tests/unit/test_filters.c compares the two.
 *
 * Three things make them small:
 *
 * * The numbers are found by a binary tree whose depth is least in the mean over all numbers: long gaps between the
 *   listed numbers are near the root. It is the optimal alphabetic tree, by dynamic programming.
 * * A condition that all rules of a call share is tested once. If each rule then requires another value of the same
 *   word, the word is loaded once.
 * * Half of a 64-bit argument that no rule looks at is not loaded.
 */
#include "vmm/filters/generate.h"

#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/filters/rules.h"

#define CALLS_MAX 64		   /* different ones in a list */
#define RULES_MAX 32		   /* of one call */
#define LEAVES_MAX (2 * CALLS_MAX) /* calls, and the gaps between them */
#define NUMBERS 452		   /* of x86-64, in the kernels that run mayfly */
#define MADE_WEIGHT 4		   /* a listed number also counts for the calls that threads make */

/* A place in the code: how many instructions follow, the one there included. 0 is the next instruction. */
typedef unsigned place;

struct leaf {
	unsigned first, last; /* numbers of calls */
	place code;
};

struct generator {
	struct filter_program *p;
	const struct filter_rule *rules;
	size_t num;
	place allow, trap, kill;
	const char *error;
};

/* Puts an instruction before all others. A jump goes to one of two places. */
static place emit(struct generator *g, uint16_t code, uint32_t k, place if_true, place if_false)
{
	struct filter_program *p = g->p;
	place true_distance = if_true ? p->len - if_true : 0, false_distance = if_false ? p->len - if_false : 0;

	if (p->len == FILTER_CODE_MAX)
		g->error = "the filter is too long";
	else if (true_distance > UINT8_MAX || false_distance > UINT8_MAX)
		g->error = "a jump is too long";
	if (g->error)
		return 1;
	p->len++;
	p->code[FILTER_CODE_MAX - p->len] = (struct sock_filter){ code, (uint8_t)true_distance, (uint8_t)false_distance,
								  k };
	return p->len;
}

static place emit_load(struct generator *g, size_t offset)
{
	return emit(g, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

/* Loads half of an argument, and cuts it to the bits of the mask. */
static place emit_load_arg(struct generator *g, unsigned number, bool high, uint32_t mask)
{
	if (mask != UINT32_MAX)
		emit(g, BPF_ALU | BPF_AND | BPF_K, mask, 0, 0);
	return emit_load(g, offsetof(struct seccomp_data, args) + 8 * (number - 1) + (high ? 4 : 0));
}

/* Tests an argument: goes to ok if it fits. */
static place emit_arg(struct generator *g, const struct filter_arg *arg, place ok, place otherwise)
{
	for (int high = 0; high < 2; high++) {
		uint32_t mask = (uint32_t)(arg->mask >> 32 * high);

		if (!mask)
			continue;
		emit(g, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(arg->value >> 32 * high), ok, otherwise);
		ok = emit_load_arg(g, arg->number, high, mask);
	}
	return ok;
}

static bool same_arg(const struct filter_arg *a, const struct filter_arg *b)
{
	return a->number == b->number && a->mask == b->mask && a->value == b->value;
}

/* Takes the argument out of the rule. Returns whether it was there. */
static bool take_arg(struct filter_rule *rule, const struct filter_arg *arg)
{
	for (unsigned i = 0; i < FILTER_ARGS_MAX; i++) {
		if (!rule->arg[i].number || !same_arg(&rule->arg[i], arg))
			continue;
		memmove(&rule->arg[i], &rule->arg[i + 1], (FILTER_ARGS_MAX - i - 1) * sizeof(rule->arg[0]));
		rule->arg[FILTER_ARGS_MAX - 1] = (struct filter_arg){ 0 };
		return true;
	}
	return false;
}

/* Takes what all of num rules require out of them, into common. Returns how many arguments that are. */
static unsigned take_common(struct filter_rule *rules, unsigned num, struct filter_arg *common)
{
	unsigned found = 0, i = 0;

	while (i < FILTER_ARGS_MAX && rules[0].arg[i].number) {
		const struct filter_arg arg = rules[0].arg[i];
		unsigned have = 0;

		for (unsigned j = 0; j < num; j++)
			for (unsigned k = 0; k < FILTER_ARGS_MAX; k++)
				have += rules[j].arg[k].number && same_arg(&rules[j].arg[k], &arg);
		if (have < num) {
			i++;
			continue;
		}
		for (unsigned j = 0; j < num; j++)
			take_arg(&rules[j], &arg);
		common[found++] = arg;
	}
	return found;
}

/* Whether each rule requires just one value, all of the low half of the same argument. */
static bool choose_by_one_word(const struct filter_rule *rules, unsigned num)
{
	for (unsigned i = 0; i < num; i++) {
		const struct filter_arg *arg = rules[i].arg;

		if (!arg[0].number || arg[1].number || arg[0].mask > UINT32_MAX ||
		    arg[0].number != rules[0].arg[0].number || arg[0].mask != rules[0].arg[0].mask)
			return false;
	}
	return true;
}

/* The code for one call, by its rules. */
static place emit_call(struct generator *g, int nr)
{
	struct filter_rule rules[RULES_MAX];
	struct filter_arg common[FILTER_ARGS_MAX];
	unsigned num = 0, num_common;
	place at = g->trap;

	for (size_t i = 0; i < g->num; i++) {
		if (g->rules[i].nr != nr)
			continue;
		if (!g->rules[i].arg[0].number)
			return g->allow;
		if (num == RULES_MAX) {
			g->error = "a call has too many rules";
			return 1;
		}
		rules[num++] = g->rules[i];
	}
	num_common = take_common(rules, num, common);
	if (choose_by_one_word(rules, num)) {
		for (unsigned i = num; i-- > 0;)
			at = emit(g, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)rules[i].arg[0].value, g->allow, at);
		at = emit_load_arg(g, rules[0].arg[0].number, false, (uint32_t)rules[0].arg[0].mask);
	} else {
		for (unsigned i = num; i-- > 0;) {
			place ok = g->allow, next = at;

			for (unsigned j = FILTER_ARGS_MAX; j-- > 0;)
				if (rules[i].arg[j].number)
					ok = emit_arg(g, &rules[i].arg[j], ok, next);
			at = ok;
		}
	}
	for (unsigned i = num_common; i-- > 0;)
		at = emit_arg(g, &common[i], at, g->trap);
	return at;
}

static int by_number(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* The different calls of the list, in the order of their numbers. Returns how many, or 0 with g->error set. */
static unsigned sort_calls(struct generator *g, int *calls)
{
	unsigned num = 0;

	for (size_t i = 0; i < g->num; i++) {
		unsigned j = 0;

		while (j < num && calls[j] != g->rules[i].nr)
			j++;
		if (j < num)
			continue;
		if (num == CALLS_MAX) {
			g->error = "has too many calls";
			return 0;
		}
		calls[num++] = g->rules[i].nr;
	}
	if (!num)
		g->error = "has no calls";
	qsort(calls, num, sizeof(*calls), by_number);
	return num;
}

/* Makes the code of all calls, and the leaves of the tree: neighbours with the same code are one. */
static unsigned make_leaves(struct generator *g, struct leaf *leaves)
{
	int calls[CALLS_MAX];
	unsigned num_calls = sort_calls(g, calls), num = 0, next = 0;

	for (unsigned i = 0; i < num_calls; i++) {
		unsigned nr = (unsigned)calls[i];
		place code = emit_call(g, calls[i]);

		if (nr > next)
			leaves[num++] = (struct leaf){ next, nr - 1, g->trap };
		if (num && leaves[num - 1].code == code)
			leaves[num - 1].last = nr;
		else
			leaves[num++] = (struct leaf){ nr, nr, code };
		next = nr + 1;
	}
	leaves[num++] = (struct leaf){ next, NUMBERS > next ? NUMBERS - 1 : next, g->trap };
	return num;
}

struct tree {
	const struct leaf *leaves;
	unsigned cost[LEAVES_MAX + 1][LEAVES_MAX + 1]; /* of leaves i to j: steps, over all their numbers */
	unsigned cut[LEAVES_MAX + 1][LEAVES_MAX + 1];  /* the last leaf of the left half */
};

static void find_cuts(struct tree *t, unsigned num, place trap)
{
	unsigned weight[LEAVES_MAX + 1];

	for (unsigned i = 0; i < num; i++) {
		const struct leaf *leaf = &t->leaves[i];

		weight[i] = leaf->last - leaf->first + 1 + (leaf->code == trap ? 0 : MADE_WEIGHT);
		t->cost[i][i] = 0;
	}
	for (unsigned len = 2; len <= num; len++) {
		for (unsigned i = 0; i + len <= num; i++) {
			unsigned j = i + len - 1, all = 0;

			for (unsigned k = i; k <= j; k++)
				all += weight[k];
			t->cost[i][j] = UINT32_MAX;
			for (unsigned k = i; k < j; k++) {
				unsigned cost = t->cost[i][k] + t->cost[k + 1][j] + all;

				if (cost < t->cost[i][j]) {
					t->cost[i][j] = cost;
					t->cut[i][j] = k;
				}
			}
		}
	}
}

/* The depth is that of the tree, below LEAVES_MAX. */
static place emit_tree(struct generator *g, const struct tree *t, unsigned i, unsigned j)
{
	unsigned cut = t->cut[i][j];
	place left, right;

	if (i == j)
		return t->leaves[i].code;
	right = emit_tree(g, t, cut + 1, j);
	left = emit_tree(g, t, i, cut);
	return emit(g, BPF_JMP | BPF_JGE | BPF_K, t->leaves[cut + 1].first, right, left);
}

const char *filter_generate(struct filter_program *p, const struct filter_rule *rules, size_t num)
{
	struct generator g = { .p = p, .rules = rules, .num = num };
	struct leaf leaves[LEAVES_MAX + 1];
	struct tree *tree = calloc(1, sizeof(*tree));
	unsigned num_leaves;

	if (!tree)
		return "out of memory";
	p->len = 0;
	g.kill = emit(&g, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
	g.trap = emit(&g, BPF_RET | BPF_K, SECCOMP_RET_TRAP, 0, 0);
	g.allow = emit(&g, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
	num_leaves = make_leaves(&g, leaves);
	if (!g.error) {
		tree->leaves = leaves;
		find_cuts(tree, num_leaves, g.trap);
		emit_tree(&g, tree, 0, num_leaves - 1);
		/* There are two leaves at least, so the tree has a first instruction, the last one that was made. */
		emit_load(&g, offsetof(struct seccomp_data, nr));
		emit(&g, BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, g.kill);
		emit_load(&g, offsetof(struct seccomp_data, arch));
	}
	free(tree);
	return g.error;
}
