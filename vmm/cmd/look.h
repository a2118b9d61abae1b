/* What can be seen of a VM that runs: by its control socket, and in /proc. `mayfly inspect` and `mayfly stats` share it. */
#ifndef MF_CMD_LOOK_H
#define MF_CMD_LOOK_H

#include <stdint.h>
#include <sys/types.h>

struct err;
struct json_t;

/* Zeroed: nothing is known. The VM has written info: a guest may have taken it over. */
struct look {
	struct json_t *info;   /* vmm/vm/vm_info.c; owned, or NULL */
	struct json_t *config; /* as --dry-run prints it; owned, or NULL */
	pid_t pid;	       /* of the process that runs the VM; or 0 */
};

/* Asks at target, as control_connect has it. Returns 0 or -errno with e set. look_done accepts either. */
int look_at(struct look *ret, const char *target, struct err *e);
void look_done(struct look *l);

/* What /proc says of a process. */
struct look_usage {
	uint64_t vcpu_ms, other_ms; /* of CPU time since its start: threads of vCPUs, and all others */
	uint64_t memory;	    /* bytes: its share (PSS), or what is resident if that may not be read */
};

/* Returns 0, or -ESRCH if it has ended. */
int look_usage(pid_t pid, struct look_usage *ret);

#endif
