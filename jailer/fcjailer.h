/*
 * `mayfly jailer`: replaces Firecracker's jailer, with its options and its layout of
 * files, for programs that use it to start microVMs. It makes a directory the root of a
 * process and gives that process devices, limits and an unprivileged user. Then it runs a
 * program there: a copy of an executable, which must be static.
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
	uint64_t fsize; /* bytes, UINT64_MAX: no limit */
	char *const *extra;
	unsigned num_extra;    /* the last arguments on the program's command line */
	uint64_t start_us;     /* CLOCK_MONOTONIC, */
	uint64_t start_cpu_us; /* and the processor time of this process, when it started */
};

/* Sets the defaults, and the time of the start to now. */
void fcjailer_init(struct fcjailer_params *p);
void fcjailer_done(struct fcjailer_params *p);

/*
 * Sets what the option of that name, without its dashes, says in text, which is kept; of one without a value, text does not
 * matter. Returns 0, or -errno with e set to what the value must be.
 */
int fcjailer_set(struct fcjailer_params *p, const char *option, const char *text, struct err *e);

/* Checks that all required options are set. Returns 0 or -EINVAL with e set. */
int fcjailer_check(const struct fcjailer_params *p, struct err *e);

/*
 * Executes the program: returns only on failure, with -errno and e set. With daemonize or
 * new_pid_ns the program runs in another process, and 0 is returned once it does. Either
 * way, all files from 3 up are closed, and the environment is cleared. On failure, what
 * was made in the file system is removed as far as possible, and so are the control
 * groups that this process has not entered.
 */
int fcjailer_run(const struct fcjailer_params *p, struct err *e);

#endif
