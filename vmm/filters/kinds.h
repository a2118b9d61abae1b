/*
 * The kinds of threads, each of which has a filter of its own, and the values that are
 * patched into it at load time.
 */
#ifndef MF_VMM_FILTERS_KINDS_H
#define MF_VMM_FILTERS_KINDS_H

enum thread_kind {
	THREAD_MAIN,
	THREAD_MAIN_API,  /* the same with Firecracker's API, */
	THREAD_MAIN_FORK, /* or of a VM whose memory others may share */
	THREAD_IO,
	THREAD_IO_API, /* and this: drives may get another image */
	THREAD_VSOCK,
	THREAD_VCPU,
	THREAD_PUMP,
	THREAD_STREAMS,
	THREAD_UNPACK, /* of a process of its own */
	THREAD_OUTER,  /* of the process outside of a jail, its only one */
	THREAD_LOG,    /* of the process that writes the log of --detach */
	THREAD_API,    /* the server of Firecracker's API */
	THREAD_CLAIM,  /* waits for the client of a pool's member whose guest runs, and ends with the claim */
	THREAD_EXEC,   /* the main thread of `mayfly exec` */
	/* Of --io-engine=sync. */
	THREAD_IO_SYNC,
	THREAD_IO_WORKER,
	THREAD_VSOCK_SYNC,
	THREAD_NUM_KINDS,
};

enum filter_slot {
	SLOT_PID,
	SLOT_MAIN_TID,
	SLOT_CRASH_SIGNAL,
	SLOT_LOG,	 /* where the log goes */
	SLOT_SIGNALS,	 /* a pipe: what signal handlers note */
	SLOT_NOTIFY,	 /* systemd's socket */
	SLOT_CHILD,	 /* the process that runs the VM, as the one outside of its jail knows it */
	SLOT_RECORD,	 /* the VM's record, of the process outside of a jail */
	SLOT_READY,	 /* the log of --detach, of the process outside of a jail */
	SLOT_EVENTS,	 /* memory.events of the jail's control group */
	SLOT_WAKE,	 /* eventfd: wakes the main thread */
	SLOT_IO_WAKE,	 /* eventfd: calls the io loop */
	SLOT_VSOCK_WAKE, /* eventfd: calls the vsock loop */
	SLOT_IOAPIC,	 /* eventfd */
	SLOT_SERIAL,	 /* eventfd */
	SLOT_OUTPUT,	 /* guest output, if a regular file */
	SLOT_COUNTER,	 /* of instructions */
	SLOT_VM,	 /* KVM's VM */
	SLOT_RESULT,	 /* the file of --result, */
	SLOT_RESULT_DIR, /* and its directory */
	SLOT_CLIENT,	 /* the client that has claimed a member of a pool */
	/* Of the thread itself. */
	SLOT_OWN,     /* its vCPU, its ring, its input, a connection, or the eventfd of io_worker */
	SLOT_LISTEN,  /* the vsock's socket */
	SLOT_TO,      /* output of a relay thread; signals for a VM in a jail; what becomes a terminal's output */
	SLOT_CHANGED, /* eventfd: a session has changed */
	SLOT_EPOLL,   /* its loop's epoll set */
	SLOT_MEMORY0, /* drives' files in memory and taps, LOOP_MEMORY_FILES_MAX of them */
	SLOT_MEMORY1,
	SLOT_MEMORY2,
	SLOT_MEMORY3,
	SLOT_WATCH0, /* eventfds: notifications of the vsock, and calls to its loop; sockets of privsep.h, outside; the
			guest's ends of streams that share a thread */
	SLOT_WATCH1,
	SLOT_WATCH2, /* outside of a jail: the base's cgroup.subtree_control */
	SLOT_WATCH3, /* the same: cgroup.procs */
	FILTER_NUM_SLOTS,
};

/* Placeholder for a slot's value in a compiled filter: not a valid descriptor or id. */
#define FILTER_SLOT_BASE 0x7fd00000U
#define FILTER_SLOT_VALUE(slot) (FILTER_SLOT_BASE + (slot))

#endif
