/* What commands on running VMs share: the names that they are given, and how a VM is ended from outside. */
#ifndef MF_CMD_VMS_H
#define MF_CMD_VMS_H

#include <stdbool.h>
#include <stdint.h>

struct cli_usage;
struct err;
struct record;

#define VMS_NAMES_MAX 1024
#define VMS_KILL_MS 10000 /* from SIGKILL to the end of the process */
#define VMS_NAME_MS 1000  /* from there until nobody listens at its control socket */

/* The first member of a command's options, for the operands. */
struct vms {
	const char *name[VMS_NAMES_MAX];
	unsigned num;
};

/* For cli_usage.operand. */
int vms_add_name(void *target, const char *text, struct err *e);

/* For cli_usage.list_operands: the VMs that there are. */
void vms_list(void (*each)(void *ctx, const char *name), void *ctx);

/*
 * Parses the command line into target, which begins with a struct vms; one name at least is
 * required. Returns 0; or -1 if the command has to return *ret_status.
 */
int vms_parse(const struct cli_usage *usage, void *target, int argc, char **argv, int *ret_status);

typedef int vms_work(int dir, struct record *r, void *ctx, struct err *e);

/*
 * Finds the records of all names, calls begin for each (or NULL), then finish. dir is the
 * directory of records. They return 0, or -errno with e set: that is reported with the name, and
 * the other VMs follow. Returns mayfly's exit status.
 */
int vms_each(const struct vms *v, vms_work *begin, vms_work *finish, void *ctx);

/* Waits until the process has ended, for timeout_ms at most (-1: no limit). Returns whether it has. */
bool vms_await_end(int pidfd, int timeout_ms);

/*
 * Sends SIGKILL, waits, and notes it in the record. Returns 0, also if the VM has ended, or -errno
 * with e set.
 */
int vms_kill(int dir, struct record *r, struct err *e);

#endif
