/*
 * What code is: the function at an address, by symbol tables, and what an instruction does. Private to the profiler's
 * plugin (plugin.c).
 */
#ifndef MF_PERF_PLUGIN_CODE_H
#define MF_PERF_PLUGIN_CODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KERNEL_START 0xffff800000000000ULL /* addresses from here on are a kernel's */
#define GUEST_IMAGE 0x1000000ULL	   /* where the guest's kernel is, in its early page tables */

enum symbol_kind { PLAIN, ENTRY, SWITCH, FORK, EXEC_DONE, EXIT_HANDLER };

struct symbol {
	uint64_t addr;
	const char *name;
	enum symbol_kind kind;
};

struct table {
	struct symbol *symbols;
	size_t num;
};

extern struct table host_kernel, host_user, guest_kernel, guest_user;

/* How a block of instructions ends, if not by going on to the next one. */
enum block_end { FALLS, CALLS, RETURNS, IRETS, SYSRETS, RUNS_GUEST };

/* Returns memory, which is not NULL: the process ends otherwise. */
void *must(void *memory);

/* Whether text begins with the other. */
bool begins(const char *text, const char *with);

/* Reads the code symbols of a file that nm(1) or /proc/kallsyms has written. An unreadable file ends the process. */
void symbols_load(struct table *t, const char *path, bool kernel);

/* The function at addr, of the host or the guest; never NULL. */
struct symbol *symbol_at(uint64_t addr, bool of_guest);

/* How an instruction of len bytes ends its block. Prefixes and REX count nothing. */
enum block_end code_end(const uint8_t *code, size_t len);

/* The number NN of a mark of perf/run.c, which is nopl with a displacement of 0x4d5946NN; 0 for other instructions. */
int code_mark(const uint8_t *code, size_t len);

#endif
