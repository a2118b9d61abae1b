/*
 * An exact profiler for the lab: a TCG plugin of QEMU 7.2 that counts the instructions of host kernel, monitor and guest
 * by their chain of callers. perf/profile compiles it, runs the lab with it, and prints what it has written.
 *
 * QEMU translates code in blocks, and calls tb_exec at the start of each. A block knows its function by the symbol
 * tables, and how it ends: a call, a return, and so on. So the stack of callers follows from which block comes after
 * which. There are two worlds, the host and the nested guest, between which VMRUN and #VMEXIT switch, and in each a
 * stack for every task: __switch_to_asm stores one stack pointer and loads another, at an address inside of the task.
 *
 * A run has phases. perf/run.c marks its start and its end by an instruction that does nothing else (see code_mark); what
 * comes between is seen in the code: the end of execve(2), the first VMRUN, the guest's first instruction of user
 * space, and CPUID of leaf 0x4d59464d (perf/init.S).
 *
 * There is one CPU (--icount), so nothing here needs a lock.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "perf/plugin/code.h"

/* What is used of QEMU's interface (include/qemu/qemu-plugin.h, version 1), which Debian does not ship as a header. */
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef void exec_fn(unsigned cpu, void *arg);
typedef void mem_fn(unsigned cpu, uint32_t info, uint64_t addr, void *arg);
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*fn)(uint64_t id, struct qemu_plugin_tb *tb));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, exec_fn *fn, int flags, void *arg);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, exec_fn *fn, int flags, void *arg);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *insn, mem_fn *fn, int flags, int rw, void *arg);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
bool qemu_plugin_mem_is_store(uint32_t info);
#define EXPORT __attribute__((visibility("default")))
#define READ_AND_WRITE 3

#define DEPTH_MAX 600
#define TASKS_MAX 4096
#define EXITS_MAX 16384

enum phase { OFF, EXECVE, SETUP, BOOT, USER, DOWN, NUM_PHASES };
static const char *const phase_names[] = { "off", "execve", "setup", "boot", "user", "down" };

struct block {
	uint64_t addr, end;
	uint32_t num_insns;
	enum block_end how;
	struct symbol *function;
};

/* One chain of callers; its children are a list, the last one that was used first. */
struct node {
	struct symbol *function;
	uint32_t parent, child, next;
	uint64_t insns[NUM_PHASES];
	uint32_t calls[NUM_PHASES];
};

static struct node *nodes; /* 0 is no node, 1 the root */
static uint32_t num_nodes = 1, nodes_room;

struct frame {
	uint32_t node;
	uint64_t return_to;
	bool entry; /* an interrupt, exception or system call */
};

struct task {
	uint64_t key;
	uint32_t root;
	struct block *last;
	int depth;
	struct frame stack[DEPTH_MAX];
};

struct world {
	const char *name;
	struct task *current, *tasks[TASKS_MAX];
	int num;
};

static struct world host = { .name = "host" }, guest = { .name = "guest" };

/* VM exits, by who handled them and by the guest's function. */
struct exits {
	struct symbol *handler, *from;
	uint64_t num[NUM_PHASES];
};

static struct exits exits[EXITS_MAX];
static int num_exits;

static enum phase phase = OFF;
static int run, wanted_run = 1;
static const char *output = "profile.out";
static bool in_guest, about_to_run;
static uint64_t after_vmrun; /* where the host goes on */
static struct symbol *guest_function;
static uint64_t vm_exits[NUM_PHASES];

static uint32_t new_node(uint32_t parent, struct symbol *function)
{
	if (num_nodes >= nodes_room) {
		nodes_room = nodes_room ? 2 * nodes_room : 1 << 16;
		nodes = must(realloc(nodes, nodes_room * sizeof(*nodes)));
		nodes[0] = (struct node){ 0 };
	}
	nodes[num_nodes] = (struct node){ .function = function, .parent = parent, .next = nodes[parent].child };
	nodes[parent].child = num_nodes;
	return num_nodes++;
}

static uint32_t child_of(uint32_t parent, struct symbol *function)
{
	for (uint32_t before = 0, n = nodes[parent].child; n; before = n, n = nodes[n].next) {
		if (nodes[n].function != function)
			continue;
		if (before) {
			nodes[before].next = nodes[n].next;
			nodes[n].next = nodes[parent].child;
			nodes[parent].child = n;
		}
		return n;
	}
	return new_node(parent, function);
}

static struct task *task_of(struct world *w, uint64_t key)
{
	struct symbol *name;
	struct task *t;
	char text[32];

	for (int i = 0; i < w->num; i++)
		if (w->tasks[i]->key == key)
			return w->tasks[i];
	t = must(calloc(1, sizeof(*t)));
	name = must(calloc(1, sizeof(*name)));
	snprintf(text, sizeof(text), "%s#%d", w->name, w->num);
	name->name = must(strdup(text));
	t->key = key;
	t->root = child_of(1, name);
	if (w->num < TASKS_MAX)
		w->tasks[w->num++] = t;
	return t;
}

static void count_exit(struct symbol *handler)
{
	struct exits *e = exits;

	if (!guest_function)
		return;
	while (e < exits + num_exits && (e->handler != handler || e->from != guest_function))
		e++;
	if (e == exits + EXITS_MAX)
		return;
	if (e == exits + num_exits) {
		*e = (struct exits){ handler, guest_function, { 0 } };
		num_exits++;
	}
	e->num[phase]++;
}

static void push(struct task *t, struct symbol *function, uint64_t return_to, bool entry)
{
	uint32_t node;

	if (t->depth == DEPTH_MAX)
		return;
	node = child_of(t->depth ? t->stack[t->depth - 1].node : t->root, function);
	t->stack[t->depth++] = (struct frame){ node, return_to, entry };
	if (phase != OFF)
		nodes[node].calls[phase]++;
}

/* The stack, now that block b follows the task's last one. */
static void follow(struct task *t, const struct block *b)
{
	struct symbol *f = b->function;
	const struct block *last = t->last;
	int i = t->depth - 1;

	if (f->kind == FORK && b->addr == f->addr) {
		t->depth = 0;
		return;
	}
	if (f->kind == ENTRY &&
	    (b->addr == f->addr || begins(f->name, "irq_entries") || begins(f->name, "early_idt"))) {
		push(t, f, 0, true);
		return;
	}
	if (!last)
		return;
	if (last->how == CALLS) {
		/* A call to the next instruction only asks for its own address. */
		if (b->addr <= last->addr || b->addr >= last->end || b->addr == f->addr)
			push(t, f, last->end, false);
	} else if (last->how == RETURNS) {
		while (i >= 0 && !t->stack[i].entry && t->stack[i].return_to != b->addr)
			i--;
		if (i >= 0 && !t->stack[i].entry)
			t->depth = i;
	} else if (last->how == IRETS || last->how == SYSRETS) {
		while (i >= 0 && !t->stack[i].entry)
			i--;
		t->depth = i < 0 ? 0 : i;
	}
}

static bool is_user_text(uint64_t addr)
{
	return (addr >= 0x400000 && addr < GUEST_IMAGE) || (addr >= 0x40000000 && addr < KERNEL_START);
}

/* Which world block b runs in, and whether a phase ends with it. */
static void switch_worlds(const struct block *b)
{
	if (in_guest && b->addr == after_vmrun) {
		in_guest = false;
		vm_exits[phase]++;
	} else if (about_to_run && b->addr == after_vmrun) {
		vm_exits[phase]++;
	} else if (about_to_run) {
		in_guest = true;
		if (phase == SETUP)
			phase = BOOT;
	}
	about_to_run = b->how == RUNS_GUEST;
	if (about_to_run)
		after_vmrun = b->end;
	if (in_guest && phase == BOOT && is_user_text(b->addr))
		phase = USER;
}

static void tb_exec(unsigned cpu, void *arg)
{
	struct block *b = arg;
	struct world *w;
	struct task *t;
	uint32_t node;

	(void)cpu;
	switch_worlds(b);
	w = in_guest ? &guest : &host;
	if (!w->current)
		w->current = task_of(w, 0);
	t = w->current;
	follow(t, b);
	t->last = b;
	if (in_guest)
		guest_function = b->function;
	if (phase == OFF)
		return;
	node = t->depth ? t->stack[t->depth - 1].node : t->root;
	if (nodes[node].function != b->function)
		node = child_of(node, b->function); /* a jump into another function */
	nodes[node].insns[phase] += b->num_insns;
	if (b->function->kind == EXIT_HANDLER && b->addr == b->function->addr)
		count_exit(b->function); /* not by the call, which may be a jump */
	if (phase == EXECVE && b->function->kind == EXEC_DONE && b->addr == b->function->addr)
		phase = SETUP;
}

/* __switch_to_asm has stored the stack pointer of the task that leaves, or loads that of the one that comes. */
static void task_switch(unsigned cpu, uint32_t info, uint64_t addr, void *arg)
{
	struct world *w = in_guest ? &guest : &host;
	struct task *next;

	(void)cpu;
	(void)arg;
	if (qemu_plugin_mem_is_store(info)) {
		if (!w->current)
			w->current = task_of(w, addr);
		if (!w->current->key)
			w->current->key = addr;
		return;
	}
	next = task_of(w, addr);
	next->last = w->current ? w->current->last : NULL;
	w->current = next;
}

static void print_counts(FILE *file)
{
	for (enum phase p = EXECVE; p < NUM_PHASES; p++)
		fprintf(file, "phase %s %lu\n", phase_names[p], vm_exits[p]);
	for (uint32_t i = 1; i < num_nodes; i++) {
		fprintf(file, "node %u %u %s", i, nodes[i].parent, nodes[i].function ? nodes[i].function->name : "-");
		for (enum phase p = EXECVE; p < NUM_PHASES; p++)
			if (nodes[i].insns[p] || nodes[i].calls[p])
				fprintf(file, " %s:%lu:%u", phase_names[p], nodes[i].insns[p], nodes[i].calls[p]);
		fputc('\n', file);
	}
	for (int i = 0; i < num_exits; i++) {
		fprintf(file, "exit %s %s", exits[i].handler->name, exits[i].from->name);
		for (enum phase p = EXECVE; p < NUM_PHASES; p++)
			if (exits[i].num[p])
				fprintf(file, " %s:%lu", phase_names[p], exits[i].num[p]);
		fputc('\n', file);
	}
}

static void write_counts(void)
{
	FILE *file = fopen(output, "w");

	if (!file) {
		perror(output);
		return;
	}
	print_counts(file);
	if (fclose(file))
		perror(output);
}

static void on_mark(unsigned cpu, void *arg)
{
	int mark = (int)(intptr_t)arg;

	(void)cpu;
	if (mark == 1 && ++run == wanted_run) {
		if (host.current)
			host.current->depth = 0;
		phase = EXECVE;
	} else if (mark == 2 && phase != OFF) {
		phase = OFF;
		write_counts();
	}
}

static void on_down(unsigned cpu, void *arg)
{
	(void)cpu;
	(void)arg;
	if (phase == USER && in_guest)
		phase = DOWN;
}

static void watch_instruction(const struct block *b, struct qemu_plugin_insn *insn, const uint8_t *before)
{
	const uint8_t *code = qemu_plugin_insn_data(insn);
	size_t len = qemu_plugin_insn_size(insn);
	int mark = code_mark(code, len);

	if (mark)
		qemu_plugin_register_vcpu_insn_exec_cb(insn, on_mark, 0, (void *)(intptr_t)mark);
	if (before && len == 2 && !memcmp(code, "\x0f\xa2", 2) && !memcmp(before, "\xb8MFYM", 5))
		qemu_plugin_register_vcpu_insn_exec_cb(insn, on_down, 0, NULL);
	/* mov %rsp, N(%rdi) and mov N(%rsi), %rsp */
	if (b->function->kind == SWITCH && len == 7 &&
	    (!memcmp(code, "\x48\x89\xa7", 3) || !memcmp(code, "\x48\x8b\xa6", 3)))
		qemu_plugin_register_vcpu_mem_cb(insn, task_switch, 0, READ_AND_WRITE, NULL);
}

static void tb_trans(uint64_t id, struct qemu_plugin_tb *tb)
{
	struct block *b = must(calloc(1, sizeof(*b)));
	size_t num = qemu_plugin_tb_n_insns(tb);
	struct qemu_plugin_insn *last = qemu_plugin_tb_get_insn(tb, num - 1);
	const uint8_t *before = NULL;

	(void)id;
	b->addr = qemu_plugin_tb_vaddr(tb);
	b->end = qemu_plugin_insn_vaddr(last) + qemu_plugin_insn_size(last);
	b->num_insns = (uint32_t)num;
	b->how = code_end(qemu_plugin_insn_data(last), qemu_plugin_insn_size(last));
	b->function = symbol_at(b->addr, (in_guest || about_to_run) && b->addr != after_vmrun);
	qemu_plugin_register_vcpu_tb_exec_cb(tb, tb_exec, 0, b);
	for (size_t i = 0; i < num; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);

		watch_instruction(b, insn, before);
		before = qemu_plugin_insn_size(insn) == 5 ? qemu_plugin_insn_data(insn) : NULL;
	}
}

EXPORT int qemu_plugin_version = 1;

/* Arguments: out=FILE, run=N (the first run is 1), and the symbols: hk=, hu=, gk=, gu= of host and guest. */
EXPORT int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
	(void)info;
	new_node(0, NULL);
	for (int i = 0; i < argc; i++) {
		const char *value = strchr(argv[i], '=');

		if (!value++)
			continue;
		if (begins(argv[i], "out="))
			output = must(strdup(value));
		else if (begins(argv[i], "run="))
			wanted_run = atoi(value);
		else if (begins(argv[i], "hk="))
			symbols_load(&host_kernel, value, true);
		else if (begins(argv[i], "hu="))
			symbols_load(&host_user, value, false);
		else if (begins(argv[i], "gk="))
			symbols_load(&guest_kernel, value, true);
		else if (begins(argv[i], "gu="))
			symbols_load(&guest_user, value, false);
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, tb_trans);
	return 0;
}
