/* What mayfly says of the end of a VM, and its exit status. Main thread. */
#ifndef MF_VM_VM_REPORT_H
#define MF_VM_VM_REPORT_H

#include <stdbool.h>

struct vm;

/* What the report needs beside the reason of the end. */
struct vm_outcome {
	unsigned status; /* of the command, with VM_END_COMMAND */
	bool lost;	 /* output, an artifact or written data was lost; a line has said so */
	bool oom;	 /* the guest's kernel has killed a process for lack of memory */
};

/* Says on stderr why the VM has ended. Returns the exit status of mayfly (exit_status.h). */
int vm_report(const struct vm *vm);

#endif
