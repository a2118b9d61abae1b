/* What the files of `mayfly oci` share. Main thread only. */
#ifndef MF_CMD_OCI_PARTS_H
#define MF_CMD_OCI_PARTS_H

#include <stdbool.h>
#include <sys/types.h>

#include "jailer/cgroup.h"
#include "vmm/config/config.h"
#include "vmm/oci/container.h"
#include "vmm/oci/spec.h"

struct err;

/* The command line. */
struct oci_options {
	const char *verb, *id, *signal; /* operands, or NULL */
	const char *root, *log, *log_format, *bundle, *console_socket, *pid_file, *process, *resources, *format;
	bool systemd_cgroup, force, detach, version;
	struct config config; /* exec's command */
};

/* The operations. Each returns 0, or a negative errno with e set; or the exit status of a command. */
int oci_create(struct oci_options *o, struct err *e);
int oci_exec(struct oci_options *o, struct err *e);
int oci_start(struct oci_options *o, struct err *e);
int oci_state(struct oci_options *o, struct err *e);
int oci_kill(struct oci_options *o, struct err *e);
int oci_delete(struct oci_options *o, struct err *e);
int oci_pause(struct oci_options *o, struct err *e);
int oci_resume(struct oci_options *o, struct err *e);
int oci_update(struct oci_options *o, struct err *e);
int oci_ps(struct oci_options *o, struct err *e);
int oci_list(struct oci_options *o, struct err *e);

/*
 * A descriptor of the monitor's process, which the caller owns (pidfd_open(2)); -ESRCH with e set if it has ended; or another
 * -errno with e set.
 */
int oci_open_process(const struct container *k, struct err *e);

/* The state as the specification has it, for engines and hooks; the caller owns it. pid 0: none. NULL: no memory. */
json_t *oci_state_json(const struct container *k, const char *status, pid_t pid);

/* Runs hooks of a kind, of a container that is there: each gets its state. Returns 0 or -errno with e set. */
int oci_run_hooks(const struct container *k, const char *kind, const char *status, pid_t pid, struct err *e);

/* The same, for kinds whose failure is a warning. */
void oci_try_hooks(const struct container *k, const char *kind, const char *status, pid_t pid);

/* Writes a PID to a file that appears whole; path may be NULL. Returns 0 or -errno with e set. */
int oci_write_pid(const char *path, pid_t pid, struct err *e);

/*
 * The control group of a container (oci_group.c): made with its limits, and with cgroupsPath as it is given. Without one, and where none can be
 * made but there are no limits, ret->dir is NULL. With systemd, for root, systemd makes it: then *ret_holder is a process that is in it, for
 * oci_scope_leave; otherwise -1. Returns 0 or -errno with e set.
 */
int oci_group_make(struct cgroup *ret, pid_t *ret_holder, const struct spec *s, bool systemd, struct err *e);

/* The directory that oci_group_make will make: a new string, or NULL if there is none, or it is not known. */
char *oci_group_path(const struct spec *s, bool systemd, struct err *e);

/* Writes the limits to the group in dir, and tells systemd if it is a scope of it. Returns 0 or -errno with e set. */
int oci_group_set(const char *dir, bool scope, const struct spec_limits *l, struct err *e);

/*
 * A group that is a scope of systemd (oci_scope.c). Whether there is a systemd that this process may ask; the scope `unit` of a
 * slice with these settings, and a process that holds it, which the caller ends when another is in it; and other settings for
 * the one in dir. Wait 30 seconds for systemd at most. Return 0 or -errno with e set.
 */
bool oci_scope_is_possible(void);
int oci_scope_make(struct cgroup *ret, pid_t *ret_holder, const char *slice, const char *unit,
		   const struct cgroup_setting *s, unsigned num, struct err *e);
void oci_scope_leave(pid_t *holder);
int oci_scope_set(const char *dir, const struct cgroup_setting *s, unsigned num, struct err *e);

/* Stops all processes in it, or lets them go on. Returns 0 or -errno with e set. */
int oci_group_freeze(const char *dir, bool on, struct err *e);
bool oci_group_is_frozen(const char *dir);

#endif
