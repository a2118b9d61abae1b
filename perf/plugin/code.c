/* See code.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "perf/plugin/code.h"

#define GUEST_IMAGE_END 0x10000000ULL
#define GUEST_MAP 0xffffffff80000000ULL /* what its symbols lie above that */
#define JIT_DISTANCE 0x8000		/* code that lies so far behind a symbol is not of its function */

struct table host_kernel, host_user, guest_kernel, guest_user;
static struct symbol unknown_kernel = { .name = "[kernel]" }, unknown_jit = { .name = "[bpf]" },
		     unknown_user = { .name = "[user]" }, unknown_guest = { .name = "[guest]" },
		     unknown_guest_user = { .name = "[guest-user]" };

void *must(void *memory)
{
	if (!memory) {
		fputs("profile: out of memory\n", stderr);
		exit(1);
	}
	return memory;
}

bool begins(const char *text, const char *with)
{
	return !strncmp(text, with, strlen(with));
}

static enum symbol_kind kind_of(const char *name)
{
	static const char *const handlers[] = { "npf_interception",  "kvm_emulate_cpuid",
						"io_interception",   "msr_interception",
						"cr_interception",   "interrupt_window_interception",
						"intr_interception", "kvm_emulate_halt",
						"kvm_emulate_rdmsr", "kvm_emulate_wrmsr",
						"pf_interception" };

	for (size_t i = 0; i < sizeof(handlers) / sizeof(*handlers); i++)
		if (!strcmp(name, handlers[i]))
			return EXIT_HANDLER;
	if (begins(name, "asm_exc_") || begins(name, "asm_sysvec_") || !strcmp(name, "entry_SYSCALL_64") ||
	    !strcmp(name, "irq_entries_start") || !strcmp(name, "early_idt_handler_array"))
		return ENTRY;
	if (!strcmp(name, "__switch_to_asm"))
		return SWITCH;
	if (!strcmp(name, "ret_from_fork") || !strcmp(name, "ret_from_fork_asm"))
		return FORK;
	return strcmp(name, "proc_exec_connector") ? PLAIN : EXEC_DONE;
}

static int by_address(const void *a, const void *b)
{
	const struct symbol *x = a, *y = b;

	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

void symbols_load(struct table *t, const char *path, bool kernel)
{
	FILE *file = fopen(path, "r");
	char line[1024], type[8], name[512];
	unsigned long addr;
	size_t room = 0;

	if (!file) {
		perror(path);
		exit(1);
	}
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx %7s %511s", &addr, type, name) != 3 || !strchr("tTwWiVv", type[0]) || !addr)
			continue;
		if (kernel && addr < KERNEL_START)
			continue;
		if (t->num == room) {
			room = room ? 2 * room : 4096;
			t->symbols = must(realloc(t->symbols, room * sizeof(*t->symbols)));
		}
		t->symbols[t->num++] = (struct symbol){ addr, must(strdup(name)), kernel ? kind_of(name) : PLAIN };
	}
	fclose(file);
	qsort(t->symbols, t->num, sizeof(*t->symbols), by_address);
}

static struct symbol *find(const struct table *t, uint64_t addr, struct symbol *otherwise)
{
	size_t low = 0, high = t->num;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (t->symbols[middle].addr <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	return low ? &t->symbols[low - 1] : otherwise;
}

struct symbol *symbol_at(uint64_t addr, bool of_guest)
{
	struct symbol *found;

	if (!of_guest && addr < KERNEL_START)
		return find(&host_user, addr, &unknown_user);
	if (!of_guest) {
		found = find(&host_kernel, addr, &unknown_kernel);
		return addr - found->addr > JIT_DISTANCE ? &unknown_jit : found;
	}
	if (addr >= GUEST_IMAGE && addr < GUEST_IMAGE_END)
		addr += GUEST_MAP;
	if (addr >= KERNEL_START)
		return find(&guest_kernel, addr, &unknown_guest);
	return find(&guest_user, addr, &unknown_guest_user);
}

enum block_end code_end(const uint8_t *code, size_t len)
{
	while (len > 1 && (memchr("\x2e\x3e\x66\xf2\xf3", *code, 5) || (*code & 0xf0) == 0x40)) {
		code++;
		len--;
	}
	if (code[0] == 0xe8 || (len > 1 && code[0] == 0xff && ((code[1] >> 3) & 7) == 2))
		return CALLS;
	if (code[0] == 0xc3 || code[0] == 0xc2 || code[0] == 0xcb)
		return RETURNS;
	if (code[0] == 0xcf)
		return IRETS;
	if (len > 1 && code[0] == 0x0f && code[1] == 0x07)
		return SYSRETS;
	if (len > 2 && !memcmp(code, "\x0f\x01\xd8", 3))
		return RUNS_GUEST;
	return FALLS;
}

int code_mark(const uint8_t *code, size_t len)
{
	return len == 8 && !memcmp(code, "\x0f\x1f\x84\x00", 4) && !memcmp(code + 5, "FYM", 3) ? code[4] : 0;
}
