/*
 * A snapshot of a paused VM into files that are named by path, as Firecracker's API has it. All of it is
 * the main thread's, which is confined: it opens the files itself.
 */
#ifndef MF_VM_VM_WRITE_H
#define MF_VM_VM_WRITE_H

#include <stdbool.h>

struct err;
struct vm;

/*
 * Begins to write the state of vm, which is paused, and its memory to these paths; config goes into the
 * state, for whoever loads it (VM_CONFIG_TAG). The layer of a drive ID gets the state's path and ".ID". After
 * 0, the attendant's `written` is called, once. Or returns -errno with e set, and nothing is left.
 *
 * diff: memory need only have the pages that differ from those of the last snapshot, for a client that copies them
 * over that. The VM knows them if that is the one that it was loaded from. Memory is complete if it was booted, if
 * another snapshot was written since, or if the path has a file, which then becomes what such a copy would make of it.
 */
int vm_write_begin(struct vm *vm, const char *state, const char *memory, const char *config, bool diff, struct err *e);

/*
 * The process that writes has ended; why: it has failed. Gives the files their names, and tells the attendant.
 * Nothing happens if this VM is not being written by vm_write_begin.
 */
void vm_write_end(struct vm *vm, const struct err *why);

/* The VM ends, whatever is under way: no file of a snapshot that is not complete stays. */
void vm_write_drop(struct vm *vm);

#endif
