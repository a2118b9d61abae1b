/*
 * The VM: owns everything, in the order in which it is built. vm_build.c builds it, vm.c serves and closes it.
 */
#ifndef MF_VM_VM_H
#define MF_VM_VM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "loader/layout.h"
#include "virtio/ratelimit.h"
#include "vmm/config/config.h"
#include "vmm/core/bus.h"
#include "vmm/core/kvm.h"
#include "vmm/core/mem.h"
#include "vmm/core/state.h"
#include "vmm/guest/console_scan.h"
#include "vmm/platform/acpi_pm.h"
#include "vmm/platform/boot_timer.h"
#include "vmm/platform/i8042.h"
#include "vmm/process/confine.h"
#include "vmm/vm/gate.h"
#include "vmm/vm/halt.h"
#include "vmm/vm/vcpu.h"
#include "vmm/vm/vm_end.h"

struct guest_client;
struct chain;
struct console;
struct cpu_template;
struct err;
struct exec_result;
struct ioapic;
struct loop;
struct mmio;
struct serial;
struct timeline;
struct virtio_dev;
struct vm;
struct vm_write;

/*
 * What drives a VM from outside, beside signals: Firecracker's API. All are called on the main thread. Either started or
 * failed is called, once.
 */
struct vm_attendant {
	int fd;						  /* readable when serve is to be called */
	void (*started)(void *ctx, struct vm *vm);	  /* vm is valid until vm_main returns */
	void (*failed)(void *ctx, const struct err *why); /* the VM was not built, and what was is freed */
	void (*serve)(void *ctx);
	void (*ended)(void *ctx); /* after started: the guest has ended, and its devices are there for the last time */
	void (*written)(void *ctx, const struct err *why); /* a snapshot (vm_write.h); why NULL: it is complete */
	void (*ran)(void *ctx, int fd, const struct exec_result *result); /* vm_exec */
	bool paused;  /* the VM, of a snapshot, begins as after vm_set_paused */
	int guest_fd; /* or -1: readable when serve_guest is to be called */
	void (*serve_guest)(void *ctx);
	void *ctx;
};

struct vm {
	const struct vm_attendant *attendant; /* or NULL */
	const struct config *config;	      /* not owned */
	struct timeline *timeline;	      /* not owned */
	struct jail_parent *parent;	      /* not owned */

	struct confine confine; /* of its threads */
	struct kvm kvm;
	struct mem mem;
	struct bus ports;
	struct bus mmio;
	enum loop_engine engine; /* of its loops; not LOOP_ENGINE_AUTO if the host forbids io_uring */
	struct loop *io;	 /* the loop of serial port, drives and networks */
	struct loop *vsock_loop; /* that of the vsock, whose files come and go; or NULL */
	struct ioapic *ioapic;
	struct serial *serial;
	struct console *console;
	struct console_scan scan;  /* written by the io loop, until output is drained */
	atomic_bool foreground;	   /* set by the io loop, which wakes the main thread: the terminal is ours again */
	atomic_bool console_began; /* set by the io loop, which wakes the main thread: the command runs on the console */
	bool console_shown;	   /* set by the io loop: the command's output is on the console */
	struct i8042 i8042;
	struct acpi_pm acpi_pm;
	struct boot_timer boot_timer;
	struct {
		int fd; /* the file of serial output, or -1 */
		struct ratelimit limit;
	} output;
	int config_fd;		     /* a memfd, for `mayfly inspect`; or -1 */
	struct guest_client *client; /* the control socket, and the talk with init; or NULL: there is neither */
	struct guest_client *guest;  /* the same if there is a command; or NULL */
	struct virtio_dev *vsock;    /* one of dev, or NULL */
	unsigned max_conns;	     /* of the vsock */
	struct virtio_dev *dev[CONFIG_DEVICES_MAX];
	struct mmio *transport[CONFIG_DEVICES_MAX];
	unsigned num_devs;
	struct cpu_template *cpu; /* CPUID of the vCPUs */
	struct vcpu_env vcpu_env; /* of them all */
	struct vcpu vcpu[CONFIG_CPUS_MAX];
	unsigned num_vcpus;
	uint8_t claim_id[LAYOUT_VM_ID_SIZE]; /* of a pool's member that runs: the VM's next id */
	int tsc_khz; /* with an attendant; it cannot be asked once vCPUs run. 0 or less: not known */

	int pagemap_fd; /* /proc/self/pagemap, or -1: which pages of RAM a snapshot has to look at */
	struct {
		pid_t pid;	   /* of the process that writes the files; 0: there is none */
		int pidfd;	   /* of the same: readable when it has ended, however; or -1 */
		bool stop;	   /* the VM is paused until the client has what it wrote (vm_on_snapshot_over) */
		uint64_t pause_ns; /* of the last one */
	} snapshot;
	struct chain *chain; /* the snapshot that it was restored from, not owned; or NULL */
	struct {
		uint8_t *data; /* `state`, until it is read */
		struct state_in in;
	} restore;
	int uffd; /* or -1: pages of RAM come from another process (page_server.h) */

	bool paused;		/* by vm_set_paused, or from the start */
	bool written;		/* a snapshot by vm_write_begin */
	struct vm_write *write; /* the files of a snapshot that is being written; or NULL */
	struct gate gate;
	struct halt halt; /* when to check whether the guest has halted for good */
	struct vm_end end;

	/* The main thread's: the end that somebody has asked for, and what the report needs beside vm_end's reason. */
	struct {
		enum vm_end_reason asked; /* VM_RUNNING: nobody has asked for the end */
		int signal;		  /* the one that asked, for VM_END_SIGNAL */
		uint64_t grace_ms;	  /* when the guest's time to end by itself is over; 0: it was not asked to */
		uint64_t boot_ms;	  /* when the command has to have started; 0: no limit, or it has */
		uint64_t int_ms;	  /* when the last SIGINT came */
		int passed;		  /* the last SIGINT or SIGQUIT that the command got from us; or 0 */
	} stop;
	struct vm_outcome {
		unsigned status; /* of the command, with VM_END_COMMAND */
		bool signalled;	 /* a signal has ended it */
		bool lost;	 /* output, an artifact or written data was lost; a line has said so */
		bool oom;	 /* the guest's kernel has killed a process for lack of memory */
	} outcome;
};

/*
 * Builds a VM from config (checked, kept), runs it until it ends, reports why on stderr, and returns the exit status of
 * mayfly (exit_status.h; -n if signal n has ended it). attendant may be NULL; with one, the caller has called crash_setup, and
 * may call again after a failure. Main thread.
 */
int vm_main(const struct config *config, struct timeline *timeline, struct jail_parent *parent,
	    const struct vm_attendant *attendant);

/*
 * Builds everything that config asks for (vm_build.c), into a vm that vm_main has initialised. Returns 0 or -errno with e
 * set; vm_main frees what was built until then. Main thread, before any vCPU runs.
 */
int vm_build(struct vm *vm, struct err *e);

/* The guest has done something (an exit to us), or gets an interrupt of ours. vCPUs and loops. */
void vm_active(struct vm *vm);

/*
 * The way to the end of a VM when a signal or a time limit asks for it (vm_stop.c). Main thread.
 *
 * vm_stop_begin: the guest runs from now on. vm_stop_timeout: how long poll(2) may wait, max_ms at most. vm_stop_check: does what is due by now. vm_stop_signal: a
 * signal to mayfly has come: passes it to the command, or ends the VM.
 */
void vm_stop_begin(struct vm *vm);
int vm_stop_timeout(const struct vm *vm, int max_ms);
void vm_stop_check(struct vm *vm);
void vm_stop_signal(struct vm *vm, int signo);

/*
 * A member of a pool whose guest runs while it waits (vm_claim.c). vm_claim_prepare and vm_claim_await: before there is a filter;
 * the latter begins to wait for a client. Both do nothing for any other VM, and return 0 or -errno with e set. vm_claim_fd: readable
 * when vm_claim_take is to be called, or -1. That returns the client's connection, as jail_member has it. Main thread.
 */
int vm_claim_prepare(struct vm *vm, struct err *e);
int vm_claim_await(struct vm *vm, struct err *e);
int vm_claim_fd(const struct vm *vm);
int vm_claim_take(struct vm *vm);

/* Says on stderr why the VM has ended (vm_report.c). Returns what vm_main returns. Main thread. */
int vm_report(const struct vm *vm);

/*
 * The guest's command runs, or without one, the guest: notes it in the VM's record. Main thread.
 */
void vm_tell_started(const struct vm *vm);

/*
 * vm_info_prepare: keeps the configuration, for vm_info (vm_info.c). Before the filters. Returns 0 or -errno with e set.
 * vm_info: see guest_client.h.
 */
int vm_info_prepare(struct vm *vm, struct err *e);
int vm_info(void *ctx, char *text, size_t size);

/* Called for what the guest's init reports, and for clients of the control socket (vm_stop.c). */
extern const struct guest_client_ops vm_guest_ops;
/* Two of these. */
void vm_on_foreground(void *ctx);
int vm_on_snapshot(void *ctx, const int *files, unsigned num, unsigned flags, struct err *e); /* vm_state.h */
void vm_on_snapper_left(void *ctx);
void vm_on_snapshot_over(void *ctx, bool in_place); /* the same */

#endif
