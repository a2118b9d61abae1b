/*
 * `mayfly bench`: starts mayfly many times as a user does, and says how long each phase took.
 *
 * Every measured run is a process of its own. Its interval begins at its execve(2), which the
 * child notes in our memory, and ends when its end is seen here. The phases between are the marks
 * of its --timeline, on the same clock.
 */
#ifndef MF_BENCH_BENCH_H
#define MF_BENCH_BENCH_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "vmm/core/kvm_stats.h"
#include "vmm/vm/timeline.h"

struct err;

#define BENCH_RUNS_MAX 100000
#define BENCH_JOBS_MAX 256
#define BENCH_LIMIT "60s"			  /* for a run, unless --timeout says another time */
#define BENCH_PHASES_MAX (TIMELINE_NUM_STEPS + 1) /* the steps, and the end of the process */
#define BENCH_NAME_MAX 48			  /* of a phase or counter, in files */
#define BENCH_COUNTERS_MAX (KVM_STATS_MAX + 5)
#define BENCH_PLAIN "plain_clones" /* the counter of claims for which the pool had no VM */

/* The kinds of measurement. A new one is a row of bench_kinds. */
struct bench_kind {
	const char *name;
	const char *tier;		 /* warm, clone or cold; with --jobs, the tier is burst; of a pool, warm */
	const char *what;		 /* for people */
	bool command;			 /* needs a COMMAND */
	bool in_one_vm;			 /* the commands run in one VM, by `mayfly exec` */
	bool snapshot;			 /* VMs from a snapshot, by the command of this name */
	const enum timeline_step *steps; /* that the phases end with; NULL: all */
	unsigned num_steps;
};

/* A kind without name ends it. */
extern const struct bench_kind bench_kinds[];

struct bench_run {
	uint64_t exec_ns, end_ns;	      /* CLOCK_MONOTONIC */
	uint64_t at_ns[TIMELINE_NUM_STEPS];   /* since exec_ns; 0: the run did not have that step */
	uint64_t counter[BENCH_COUNTERS_MAX]; /* as bench.counter names them */
	bool has_counter[BENCH_COUNTERS_MAX];
	bool ended, failed;
	int status; /* of its process; -n: signal n has ended it */
	bool outlier;
};

struct bench {
	const struct bench_kind *kind;
	unsigned runs, warm, jobs;
	bool pinned;
	cpu_set_t cpus;
	char *const *argv;    /* of a measured process; NULL ends it */
	char *const *vm_argv; /* with in_one_vm: of the VM */
	bool of_pool;	      /* VMs of a pool: of a run, its whole time is known */
	uint64_t limit_ms;    /* a run is killed then */
	bool progress;	      /* stderr is a terminal */

	/* The results. */
	struct bench_run *run; /* of those that were not interrupted, in the order of their start */
	unsigned num, failed;
	char counter[BENCH_COUNTERS_MAX][BENCH_NAME_MAX];
	unsigned num_counters;
	uint64_t began_ns, ended_ns; /* of all measured runs, without those that warm up */
	int signal;		     /* that has ended it early, or 0 */
};

/* The descriptors of a measured process. */
enum { BENCH_STDIN, BENCH_STDOUT, BENCH_STDERR, BENCH_TIMELINE, BENCH_FDS };

/* A process that was started. */
struct bench_child {
	pid_t pid;
	int pidfd;   /* -1: there is none */
	int said_fd; /* a pipe with its stderr, non-blocking */
	int timeline_fd;
	uint64_t exec_ns;
	char said[512]; /* the end of its stderr */
	size_t said_len;
};

#define BENCH_CHILD_NONE ((struct bench_child){ .pidfd = -1, .said_fd = -1, .timeline_fd = -1 })

/*
 * Starts argv, which is this program, with stdin (-1: /dev/null), without stdout, in a process group
 * of its own, on the CPUs of --pin. The kernel sends it SIGTERM when the caller ends. Returns 0 or
 * -errno with e set. bench_child_done kills it if it still runs.
 */
int bench_child_start(struct bench_child *c, const struct bench *b, char *const argv[], int stdin_fd, struct err *e);
void bench_child_listen(struct bench_child *c); /* takes what it says */
void bench_child_done(struct bench_child *c);

/* Whether it has said that it was a plain clone, since the pool had no VM. Before bench_child_said. */
bool bench_child_was_plain(const struct bench_child *c);

/* The last line that it has said, without the "mayfly: " of one of ours; "" if there is none. Valid until it is done. */
const char *bench_child_said(struct bench_child *c);

/*
 * Runs them all, with its own handling of SIGINT, SIGTERM, SIGHUP and SIGQUIT: such a signal ends what
 * runs, and is in b->signal. Returns 0, or -errno with e set if nothing could be measured. Runs that
 * failed are reported and counted. One thread only.
 */
int bench_measure(struct bench *b, struct err *e);
void bench_done(struct bench *b);

/*
 * Takes a file of --timeline (JSON of len bytes) into run, whose exec_ns is set, and counters that are new
 * into b. Returns 0, or -EPROTO with e set if it is none.
 */
int bench_take_timeline(struct bench *b, struct bench_run *run, const char *text, size_t len, struct err *e);

/* Sets a counter of run, and its name if it is new. Beyond BENCH_COUNTERS_MAX, it is left out. */
void bench_count(struct bench *b, struct bench_run *run, const char *name, uint64_t value);

/* Parses CPUs as taskset -c takes them: "0,2-3". Returns 0, or -EINVAL with e set. */
int bench_parse_cpus(const char *text, cpu_set_t *ret, struct err *e);

/*
 * The version of a Linux kernel, from a bzImage's header or an ELF file's banner: "6.12.1". Returns false, with ret
 * empty, if the file has none.
 */
bool bench_kernel_version(const char *path, char *ret, size_t size);

#endif
