/*
 * `mayfly doctor`: what this host has of that which mayfly wants, and what to do about the rest.
 *
 * A check looks at the host through a struct doctor_host alone, so that tests can show it any host. It never fails: what
 * cannot be found out is a finding, too.
 */
#ifndef MF_DOCTOR_DOCTOR_H
#define MF_DOCTOR_DOCTOR_H

#include "vmm/cli/cli.h"

struct err;
struct kvm_native;

#define DOCTOR_TEXT_MAX 512

enum doctor_level {
	DOCTOR_OK,
	DOCTOR_WARN, /* guests run, but slower, with less, or less well fenced in */
	DOCTOR_FAIL, /* no guest runs */
};

/* Each text is one line, whatever was in the host's files. */
struct doctor_finding {
	enum doctor_level level;
	char text[DOCTOR_TEXT_MAX];
	char fix[DOCTOR_TEXT_MAX]; /* what to do; empty for DOCTOR_OK */
};

/* The probes return 0 or a negative errno, with e set where they have one. */
struct doctor_host {
	const char *root; /* in front of the path of every file: "" */
	const char *path; /* $PATH, or NULL */
	unsigned uid;
	int (*kvm)(struct err *e);
	int (*native)(struct kvm_native *ret, struct err *e);
	int (*io_uring)(struct err *e);
	int (*user_namespace)(void);
	int (*landlock)(void);				/* its ABI */
	int (*kernel)(struct config *c, struct err *e); /* sets c->kernel to the default one, and loads it */
	char *(*rootfs)(void);				/* a new string, or NULL */
};

/* The host that this process is on. No other thread may run: a probe forks, another waits for a signal. */
void doctor_host_init(struct doctor_host *h);

struct doctor_check {
	const char *name;
	void (*run)(const struct doctor_host *h, struct doctor_finding *f);
};

/* In the order in which they are told, with a name of NULL at the end. */
extern const struct doctor_check doctor_checks[];

extern const struct cli_usage doctor_usage;

int doctor_command(int argc, char **argv);

#endif
