/*
 * The container that an engine asks for: config.json of a bundle (OCI runtime-spec 1.1), and what a microVM makes of it.
 *
 * Each part is checked, and becomes keys of mayfly's own configuration, where there is one. What a microVM cannot have is
 * refused with a sentence that begins with the field's name. What concerns processes of the host only (capabilities, seccomp,
 * AppArmor, SELinux, masked paths) has nothing to act on: the guest's kernel is the wall.
 */
#ifndef MF_OCI_SPEC_H
#define MF_OCI_SPEC_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct config;
struct config_command;
struct err;
struct json_at;

#define SPEC_VERSION "1.1.0"
#define SPEC_FILE "config.json"
#define SPEC_MEM_DEFAULT (512ULL << 20) /* without an annotation and a limit */
#define SPEC_OWN_MEMORY (64ULL << 20)	/* that the monitor may use beside the guest's memory, under a limit */
#define SPEC_UNIFIED_MAX 32
#define SPEC_VALUE_MAX 256	    /* bytes of a setting of the control group, with its NUL */
#define SPEC_THREADS_MAX (1U << 22) /* Linux's */

enum spec_net { SPEC_NET_JOIN, SPEC_NET_USER, SPEC_NET_NONE };

struct spec_limits {
	uint64_t memory, cpu_quota, cpu_period, cpu_shares; /* 0: none */
	const char *cpus, *mems;			    /* or NULL: the processors and nodes of cpuset */
	const json_t *unified;				    /* or NULL: texts by files of the control group */
};

/* What is beside the configuration. The texts live as long as the document. */
struct spec {
	json_t *json; /* owned */
	bool terminal;
	uint64_t rows, columns; /* of the terminal; 0: the engine sets them */
	bool packed;		/* bind mounts are copies */
	bool root_live;		/* the root is the directory itself */
	bool host_net;		/* no namespace is asked for */
	enum spec_net net;	/* JOIN: of netns, by a tap there; USER: by passt in netns, or in ours */
	const char *netns;	/* or NULL: a namespace of its own, in which there is nothing */
	const char *cgroups;	/* linux.cgroupsPath, or NULL */
	struct spec_limits limits;
	const json_t *annotations; /* of strings; or NULL */
	const json_t *hooks;	   /* checked; or NULL */
};

/* Zeroed or read: frees. */
void spec_done(struct spec *s);

/*
 * Reads bundle/config.json, and sets c, of config_init, from it: all but the network. bundle is an absolute path. Returns 0, or
 * -errno with e set. spec_done and config_done accept either.
 */
int spec_read(struct spec *s, struct config *c, const char *bundle, struct err *e);

/* The same of a document, which becomes the spec's. */
int spec_take(struct spec *s, struct config *c, json_t *json, const char *bundle, struct err *e);

/*
 * A process: its arguments, environment, directory, user, groups and limits go to c's command, its terminal to s. prefix is
 * what messages call it ("process"), or "" for a document that is one. Returns 0, or -errno with e set.
 */
int spec_read_process(struct spec *s, struct config *c, const struct json_at *process, struct err *e);

/* linux.resources, or a document that is one: what the control group limits. */
int spec_read_limits(struct spec_limits *l, const struct json_at *resources, struct err *e);

/* What of "linux" is a setting of the guest's kernel, and what else a microVM cannot have (kernel.c). */
int spec_read_kernel(struct config *c, const struct json_at *top, const struct json_at *section, struct err *e);

/* Each key of an object, or element of an array, that has any: refused, and why. */
int spec_refuse(const struct json_at *at, const char *key, json_type type, const char *why, struct err *e);

/* Its mounts become volumes and file systems in memory of c. */
int spec_read_mounts(const struct spec *s, struct config *c, const struct json_at *top, struct err *e);

#endif
