/* The guest's serial output in a file of its own, with a limit, for Firecracker's API. */
#ifndef MF_VM_VM_OUTPUT_H
#define MF_VM_VM_OUTPUT_H

#include <stddef.h>

struct console_params;
struct err;
struct vm;

/*
 * Has the console use the file and the limit that the configuration names, if it does. A file that is not there is
 * made. One that is there is overwritten from its beginning, and a FIFO without a reader is not waited for. There is
 * no input then, as in Firecracker. Returns 0 or -errno with e set. Before console_new; vm_close closes the file.
 */
int vm_output_set(struct vm *vm, struct console_params *params, struct err *e);

#endif
