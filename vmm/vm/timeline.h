/*
 * Time marks of one boot, from exec to the end, for --time. The thread that first reaches a step sets its mark. Marks are
 * cheap enough to be set in every run; the counter of instructions is opened only on request.
 */
#ifndef MF_VM_TIMELINE_H
#define MF_VM_TIMELINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/utsname.h>

#include "vmm/core/kvm_stats.h"

struct json_t;

enum timeline_step {
	TIMELINE_MAIN,	  /* main() was entered: kernel's exec and the start of libc are over */
	TIMELINE_CONFIG,  /* options and configuration file are read and checked */
	TIMELINE_PACK,	  /* directories and archives are packed, or their images found, if there are any */
	TIMELINE_JAIL,	  /* the process is in its jail, if there is one */
	TIMELINE_MEMORY,  /* guest RAM is mapped */
	TIMELINE_KERNEL,  /* kernel, initrd and boot data are in guest RAM */
	TIMELINE_KVM,	  /* the VM, its memory slots and interrupt controller exist */
	TIMELINE_DEVICES, /* IOAPIC, serial port, drives and their loop */
	TIMELINE_VCPUS,	  /* vCPUs exist and have their state */
	TIMELINE_RUN,	  /* before the first KVM_RUN */
	TIMELINE_PID1,	  /* the guest's kernel opened the console for PID 1 */
	TIMELINE_OUTPUT,  /* the first byte that user space wrote to the console */
	/* With a command, as init and the streams report it. */
	TIMELINE_INIT,	  /* init was started */
	TIMELINE_ROOT,	  /* the root is mounted */
	TIMELINE_NET,	  /* the network is up */
	TIMELINE_STARTED, /* the command was started */
	TIMELINE_BYTE,	  /* the first byte of its output */
	TIMELINE_EXIT,	  /* the command has exited, and all its output is written */
	TIMELINE_END,	  /* the guest has ended */
	TIMELINE_GONE,	  /* the VM is closed: no thread of it runs, all output is written */
	TIMELINE_NUM_STEPS
};

/* What the file of --timeline has besides the marks. It is large, and touched with that option only. */
struct timeline_about {
	struct utsname host;
	const char *kernel;   /* the guest's, as a path; or NULL */
	struct kvm_stats kvm; /* KVM's counters of the vCPUs, once the VM has ended */
};

struct timeline {
	struct {
		atomic_bool set;
		uint64_t ns; /* since exec; valid once set is */
		uint64_t instructions;
	} mark[TIMELINE_NUM_STEPS];
	uint64_t start_ns;	      /* CLOCK_MONOTONIC of exec, estimated by the CPU time up to main() */
	int counter_fd;		      /* perf event that counts all threads made after it, or -1 */
	const char *from;	      /* "template" or "snapshot"; NULL: a kernel boots */
	struct timeline_about *about; /* for timeline_write, or NULL */
};

/* First thing in main(). */
void timeline_init(struct timeline *t);

/* Opens the counter of instructions (user, kernel and guest) if the kernel allows it. Before threads are made. */
void timeline_count_instructions(struct timeline *t);

/* Sets a mark if it is not set yet. Any thread. */
void timeline_mark(struct timeline *t, enum timeline_step step);

/* The name of a step, for people. */
const char *timeline_step_name(enum timeline_step step);

/*
 * The marks that are set as JSON, which perf/timeline draws and `mayfly bench` reads: { "version": 1, "mayfly":
 * VERSION, "boot": "cold", "template" or "snapshot", "start_ns": N, "steps": [ { "step": NAME, "at_ns": N, "instructions": N }, ... ] }, in the order of enum
 * timeline_step. start_ns is CLOCK_MONOTONIC; "instructions" is absent where they were not counted. With about, also
 * "host_kernel" (uname -r), "cpu", "kernel" (the path of the guest's), and "kvm", a count for each of KVM's counters, where
 * the kernel has such counters. The caller owns the object. NULL: memory is short.
 */
struct json_t *timeline_json(struct timeline *t);

/* Writes that object to a file. Returns 0 or -errno. */
int timeline_write(struct timeline *t, int fd);

/* Writes those that are set as members of an object of JSON, "STEP": MILLISECONDS. Returns the length, or 0: no room. */
size_t timeline_text(struct timeline *t, char *text, size_t size);

/* Prints the line of boot times and the table of steps to stderr, without the steps that were not reached. */
void timeline_print(struct timeline *t);

#endif
