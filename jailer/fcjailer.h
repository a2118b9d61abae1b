/*
 * `mayfly jailer`: what Firecracker's jailer does, with its options and its layout of files, for programs that start
 * microVMs with it. It makes a directory the root of a process, gives that process devices, limits and an unprivileged
 * user, and runs a program there, a copy of an executable that must be static:
 *
 *	CHROOT_BASE/EXEC_NAME/ID/root/EXEC_NAME		the copy
 *	CHROOT_BASE/EXEC_NAME/ID/root/EXEC_NAME.pid	its pid, as the caller of the jailer sees it
 *	CHROOT_BASE/EXEC_NAME/ID/root/{dev,dev/net,run}
 */
#ifndef MF_JAILER_FCJAILER_H
#define MF_JAILER_FCJAILER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "jailer/cgroup.h"

struct err;

#define FCJAILER_ID_MAX 64		 /* characters */
#define FCJAILER_EXEC_MAX (256ULL << 20) /* bytes of the executable */
#define FCJAILER_NO_FILE_DEFAULT 2048

struct fcjailer_params {
	const char *id;
	const char *exec_file;
	const char *chroot_base; /* must exist */
	const char *netns;	 /* a file of a network namespace, or NULL */
	const char *parent;	 /* of the control group, or NULL: the executable's name */
	int64_t uid, gid;	 /* -1: not given */
	bool daemonize;
	bool new_pid_ns;
	struct cgroup_setting cgroup[CGROUP_SETTINGS_MAX]; /* owned strings, see add_cgroup */
	unsigned num_cgroups;
	uint64_t no_file;
	uint64_t fsize; /* bytes, UINT64_MAX: not limited */
	char *const *extra;
	unsigned num_extra;    /* what comes last on the program's command line */
	uint64_t start_us;     /* CLOCK_MONOTONIC, */
	uint64_t start_cpu_us; /* and the processor time of this process, when it started */
};

/* The defaults, and now as the time of the start. */
void fcjailer_init(struct fcjailer_params *p);
void fcjailer_done(struct fcjailer_params *p);

/*
 * Sets what the option of that name, without its dashes, says in text, which is kept; of one without a value, text does not
 * matter. Returns 0, or -errno with e set to what the value must be.
 */
int fcjailer_set(struct fcjailer_params *p, const char *option, const char *text, struct err *e);

/* Whether all is there that must be. Returns 0 or -EINVAL with e set. */
int fcjailer_check(const struct fcjailer_params *p, struct err *e);

/*
 * Becomes the program: returns only if that fails, with -errno and e set. With daemonize or new_pid_ns the program runs
 * in another process, and 0 is returned when it does. All files from 3 up are closed, and the environment is cleared,
 * either way. What was made in the file system is removed if it fails, as far as that is possible; of control groups,
 * those that it has not entered.
 */
int fcjailer_run(const struct fcjailer_params *p, struct err *e);

#endif
