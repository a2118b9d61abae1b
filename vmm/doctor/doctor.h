/*
 * `mayfly doctor`: checks whether this host has what mayfly needs, and suggests fixes.
 *
 * A check sees the host through a struct doctor_host alone, so that tests can simulate any host.
 * It cannot fail: what it cannot read is a finding, too.
 */
#ifndef MF_DOCTOR_DOCTOR_H
#define MF_DOCTOR_DOCTOR_H

#include "vmm/cli/cli.h"

struct err;
struct kvm_native;

#define DOCTOR_TEXT_MAX 512

enum doctor_level {
	DOCTOR_OK,
	DOCTOR_WARN, /* guests run, but slower, with less, or less isolated */
	DOCTOR_FAIL, /* no guest runs */
};

/* Each text is one printable line, whatever the host's files contain. */
struct doctor_finding {
	enum doctor_level level;
	char text[DOCTOR_TEXT_MAX];
	char fix[DOCTOR_TEXT_MAX]; /* empty for DOCTOR_OK */
};

/* The probes return 0 or a negative errno, with e set where they have one. */
struct doctor_host {
	const char *root; /* prefix of every path: "" */
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

/* This host. The process must have one thread: a probe forks, another waits for a signal. */
void doctor_host_init(struct doctor_host *h);

struct doctor_check {
	const char *name;
	void (*run)(const struct doctor_host *h, struct doctor_finding *f);
};

/* In the order of the output; a name of NULL ends it. */
extern const struct doctor_check doctor_checks[];

extern const struct cli_usage doctor_usage;

int doctor_command(int argc, char **argv);

#endif
