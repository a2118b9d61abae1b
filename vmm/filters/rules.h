/*
 * The system calls that each thread may make once the guest runs: one table for each kind
 * of thread, with a reason for each entry. A call that is not listed, or has other
 * arguments, is not made, and mayfly ends with status 105.
 *
 * compile.c turns these lists into seccomp filters at build time (generate.c). Values
 * known only at run time (descriptors, thread ids) are constants of enum filter_slot in
 * the filters; confine.c replaces them.
 *
 * No thread may ever call execve, mprotect, ptrace or io_uring_setup, nor mmap but for RAM of a VM with --forkable. open is
 * for the files that the unpacker makes, for the vsock thread's O_PATH, and for what clients of Firecracker's API name;
 * io_uring_register only gives files up, and socket is for the vsock thread's AF_UNIX. Memory: the main thread may grow the
 * heap (brk). The others allocate none: a heap of their own would need mmap (M_ARENA_MAX is 1).
 *
 * The boot tests make each listed call under strace(1) (tests/seccomp/compare), except
 * for those that only some machines need (RARELY).
 */
#ifndef MF_VMM_FILTERS_RULES_H
#define MF_VMM_FILTERS_RULES_H

#include <asm/ioctls.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/futex.h>
#include <linux/if_tun.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "vmm/filters/kinds.h"

struct filter_arg {
	unsigned number; /* from 1; 0: none */
	uint64_t mask, value;
};

#define FILTER_ARGS_MAX 3

struct filter_rule {
	const char *name;
	int nr;
	const char *why;
	bool rarely;				/* made on some machines only, so no test is required to make it */
	struct filter_arg arg[FILTER_ARGS_MAX]; /* all must hold */
};

/* The kernel takes descriptors, ids and commands from the low half of a register. */
#define INT(n, v)                                                                                                      \
	{                                                                                                              \
		.number = (n), .mask = UINT32_MAX, .value = (uint32_t)(v)                                              \
	}
#define SLOT(n, slot) INT(n, FILTER_SLOT_VALUE(slot))
#define LEN(n, v)                                                                                                      \
	{                                                                                                              \
		.number = (n), .mask = UINT64_MAX, .value = (v)                                                        \
	}
#define BITS(n, m, v)                                                                                                  \
	{                                                                                                              \
		.number = (n), .mask = (m), .value = (v)                                                               \
	}
#define ALLOW(call, reason, ...)                                                                                       \
	{                                                                                                              \
		.name = #call, .nr = SYS_##call, .why = (reason), .arg = { __VA_ARGS__ }                               \
	}
#define RARELY(call, reason, ...)                                                                                      \
	{                                                                                                              \
		.name = #call, .nr = SYS_##call, .why = (reason), .rarely = true, .arg = { __VA_ARGS__ }               \
	}

/*
 * Not needed where the vDSO reads the clock. The tests' lab has another clock source; a
 * real host need not.
 */
#define CLOCK RARELY(clock_gettime, "time, where the vDSO cannot read the host's clock")

#define FUTEX(reason)                                                                                                  \
	ALLOW(futex, reason, BITS(2, 0x7f, FUTEX_WAIT)), ALLOW(futex, reason, BITS(2, 0x7f, FUTEX_WAKE)),              \
		ALLOW(futex, reason, BITS(2, 0x7f, FUTEX_WAIT_BITSET))

/* Calls that every thread needs to wait for others and to exit. */
#define DEATH                                                                                                          \
	FUTEX("locks and conditions"),                                                                                 \
		ALLOW(tgkill, "reports a crash to the main thread", SLOT(1, SLOT_PID), SLOT(2, SLOT_MAIN_TID),         \
		      SLOT(3, SLOT_CRASH_SIGNAL)),                                                                     \
		ALLOW(exit_group, "the end, if the main thread does not answer")

#define COMMON DEATH, CLOCK

#define COUNTER ALLOW(read, "the counter of instructions, for --time", SLOT(1, SLOT_COUNTER), LEN(3, 8))

/* Of pthread_exit(3). */
#define THREAD_EXIT                                                                                                    \
	ALLOW(rt_sigprocmask, "the end of a thread"),                                                                  \
		ALLOW(madvise, "the end of a thread: its stack is given back", INT(3, MADV_DONTNEED)),                 \
		ALLOW(exit, "the end of a thread")

#define LOG ALLOW(write, "the log", SLOT(1, SLOT_LOG))

/* The KVM calls of a device, on its loop. */
#define DEVICE                                                                                                         \
	ALLOW(ioctl, "an interrupt for the guest", SLOT(1, SLOT_VM), INT(2, KVM_SIGNAL_MSI)),                          \
		ALLOW(ioctl, "a driver is ready: its notifications come by eventfd", SLOT(1, SLOT_VM),                 \
		      INT(2, KVM_IOEVENTFD)),                                                                          \
		ALLOW(write, "the main thread is wanted", SLOT(1, SLOT_WAKE), LEN(3, 8))

/*
 * It never ends: it stays in futex(2) until the process exits. Its log goes through the
 * main thread.
 */
static const struct filter_rule vcpu_rules[] = {
	ALLOW(ioctl, "the guest runs", SLOT(1, SLOT_OWN), INT(2, KVM_RUN)),
	ALLOW(write, "the main thread is wanted", SLOT(1, SLOT_WAKE), LEN(3, 8)),
	ALLOW(write, "the io loop is called", SLOT(1, SLOT_IO_WAKE), LEN(3, 8)),
	ALLOW(write, "the vsock loop is called", SLOT(1, SLOT_VSOCK_WAKE), LEN(3, 8)),
	ALLOW(write, "an interrupt that was pending", SLOT(1, SLOT_IOAPIC), LEN(3, 8)),
	ALLOW(write, "a byte for the console", SLOT(1, SLOT_SERIAL), LEN(3, 8)),
	ALLOW(rt_sigreturn, "the signal that ends KVM_RUN"),
	COUNTER,
	COMMON,
};

#define QUIET                                                                                                          \
	ALLOW(epoll_ctl, "a socket of whose peer only the stream has ended", SLOT(1, SLOT_EPOLL)),                     \
		ALLOW(epoll_wait, "the same: its events, which are there", SLOT(1, SLOT_EPOLL), INT(4, 0))

#define IN_MEMORY(slot)                                                                                                \
	ALLOW(pwritev2, "a drive's file in memory is written, or a tap", SLOT(1, slot)),                               \
		ALLOW(preadv2, "the same is read", SLOT(1, slot), INT(6, 0))

/* At an offset that is not negative, so only a file that has positions is read, and no socket, pipe or eventfd. */
#define CACHED                                                                                                         \
	ALLOW(preadv2, "a drive is read, as far as no wait is needed", BITS(4, 1ULL << 63, 0), INT(6, RWF_NOWAIT))

/* Before it reads keys that were typed while mayfly was in the background. */
#define CONSOLE ALLOW(ioctl, "the console's terminal: is it ours", INT(1, STDIN_FILENO), INT(2, TIOCGPGRP))

#define IO_LOOP                                                                                                        \
	ALLOW(io_uring_enter, "all other I/O", SLOT(1, SLOT_OWN)), IN_MEMORY(SLOT_MEMORY0), IN_MEMORY(SLOT_MEMORY1),   \
		IN_MEMORY(SLOT_MEMORY2), IN_MEMORY(SLOT_MEMORY3), CACHED,                                              \
		ALLOW(io_uring_register, "the end: the ring gives up its files", SLOT(1, SLOT_OWN),                    \
		      INT(2, IORING_UNREGISTER_FILES), LEN(3, 0)),                                                     \
		QUIET, CONSOLE, DEVICE, ALLOW(ioctl, "what a tap does for its guest", INT(2, TUNSETOFFLOAD)),          \
		ALLOW(write, "guest output, to a regular file; or a pipe that has room", SLOT(1, SLOT_OUTPUT)), LOG,   \
		COUNTER, COMMON, THREAD_EXIT

static const struct filter_rule io_rules[] = { IO_LOOP };

static const struct filter_rule io_api_rules[] = {
	ALLOW(io_uring_register, "a drive gets another image", SLOT(1, SLOT_OWN), INT(2, IORING_REGISTER_FILES_UPDATE),
	      LEN(4, 1)),
	IO_LOOP,
};

#define WATCH(slot)                                                                                                    \
	ALLOW(read, "what its poll has found: a notification of the guest, or a call", SLOT(1, slot), LEN(3, 8))

#define VSOCK                                                                                                          \
	DEVICE, ALLOW(recvmsg, "data of a connection", BITS(3, UINT32_MAX & ~MSG_PEEK, MSG_DONTWAIT)),                 \
		ALLOW(recvmsg, "in a jail, the guest connects: the socket", INT(3, MSG_CMSG_CLOEXEC)),                 \
		ALLOW(sendmsg, "data of a connection", INT(3, MSG_DONTWAIT | MSG_NOSIGNAL)),                           \
		ALLOW(sendmsg, "in a jail, the guest connects: the question", INT(3, MSG_NOSIGNAL)),                   \
		ALLOW(accept4, "a program of the host connects", SLOT(1, SLOT_LISTEN)),                                \
		ALLOW(openat, "the guest connects: what has that port's name?",                                        \
		      INT(3, O_PATH | O_NOFOLLOW | O_CLOEXEC)),                                                        \
		ALLOW(newfstatat, "the guest connects: is it a socket?", INT(4, AT_EMPTY_PATH)),                       \
		ALLOW(socket, "the guest connects", INT(1, AF_UNIX),                                                   \
		      INT(2, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC)),                                             \
		ALLOW(connect, "the guest connects"), ALLOW(shutdown, "one side has ended"),                           \
		ALLOW(close, "a connection has ended"), LOG, COMMON, THREAD_EXIT

static const struct filter_rule vsock_rules[] = {
	ALLOW(io_uring_enter, "waiting for sockets", SLOT(1, SLOT_OWN)),
	QUIET,
	VSOCK,
};

/*
 * Without io_uring. Reads and writes are not pinned by descriptor, since a loop has up to
 * 128 of them. They are pinned by flags, so that these calls can only read and write.
 */
static const struct filter_rule io_sync_rules[] = {
	ALLOW(ppoll, "waiting for all files"),
	ALLOW(preadv2, "what does not block", INT(6, 0)),
	CACHED,
	ALLOW(pwritev2, "what does not block", INT(6, 0)),
	ALLOW(recvmsg, "frames of passt", INT(3, MSG_DONTWAIT)),
	ALLOW(sendmsg, "frames for passt", INT(3, MSG_DONTWAIT | MSG_NOSIGNAL)),
	ALLOW(read, "io_worker has done something", SLOT(1, SLOT_OWN), LEN(3, 8)),
	CONSOLE,
	DEVICE,
	ALLOW(ioctl, "what a tap does for its guest", INT(2, TUNSETOFFLOAD)),
	ALLOW(write, "guest output, to a regular file; or a pipe that has room", SLOT(1, SLOT_OUTPUT)),
	LOG,
	COUNTER,
	COMMON,
	THREAD_EXIT,
};

static const struct filter_rule io_worker_rules[] = {
	ALLOW(preadv2, "a drive is read", INT(6, 0)),
	ALLOW(pwritev2, "a drive is written", INT(6, 0)),
	ALLOW(fdatasync, "a drive is flushed"),
	ALLOW(fallocate, "discard, and write zeroes"),
	ALLOW(write, "wakes the io loop", SLOT(1, SLOT_OWN), LEN(3, 8)),
	DEATH,
	THREAD_EXIT,
};

static const struct filter_rule vsock_sync_rules[] = {
	ALLOW(ppoll, "waiting for sockets"),
	WATCH(SLOT_WATCH0),
	WATCH(SLOT_WATCH1),
	VSOCK,
};

/* A thread that carries one stream of a COMMAND (stdio_relay.c). */
static const struct filter_rule pump_rules[] = {
	ALLOW(read, "the stream", SLOT(1, SLOT_OWN)),
	ALLOW(write, "the stream", SLOT(1, SLOT_TO)),
	ALLOW(poll, "a stream that somebody has made non-blocking; a terminal"),
	RARELY(restart_syscall, "it continues after SIGSTOP and SIGCONT, or a freezer"),
	ALLOW(ioctl, "is the terminal ours", SLOT(1, SLOT_OWN), INT(2, TIOCGPGRP)),
	ALLOW(write, "reports its end to the main thread", SLOT(1, SLOT_CHANGED), LEN(3, 8)),
	ALLOW(shutdown, "the end of stdin"),
	LOG,
	COUNTER,
	COMMON,
	THREAD_EXIT,
};

/* The thread that carries all of them that cannot block. */
static const struct filter_rule streams_rules[] = {
	ALLOW(poll, "waiting for a stream"),
	RARELY(restart_syscall, "it continues after SIGSTOP and SIGCONT, or a freezer"),
	ALLOW(splice, "stdin, a pipe", INT(1, STDIN_FILENO), SLOT(3, SLOT_WATCH0)),
	ALLOW(splice, "stdout, a pipe", SLOT(1, SLOT_WATCH1), INT(3, STDOUT_FILENO)),
	ALLOW(splice, "stderr, a pipe", SLOT(1, SLOT_WATCH2), INT(3, STDERR_FILENO)),
	ALLOW(read, "stdin, a file", INT(1, STDIN_FILENO)),
	ALLOW(write, "the same, to the command", SLOT(1, SLOT_WATCH0)),
	ALLOW(read, "stdout of the command, for a file; what has no reader any more", SLOT(1, SLOT_WATCH1)),
	ALLOW(read, "stderr, the same", SLOT(1, SLOT_WATCH2)),
	ALLOW(write, "stdout, a file", INT(1, STDOUT_FILENO)),
	ALLOW(write, "stderr, a file", INT(1, STDERR_FILENO)),
	ALLOW(write, "reports the end of one to the main thread", SLOT(1, SLOT_CHANGED), LEN(3, 8)),
	ALLOW(shutdown, "the end of stdin"),
	LOG,
	COUNTER,
	COMMON,
	THREAD_EXIT,
};

/*
 * The process that unpacks an artifact (untar.c). Its writes are not pinned by
 * descriptor: it has only descriptors of files that it has made. It can create files,
 * directories and symlinks; their mode has permission bits only.
 */
static const struct filter_rule unpack_rules[] = {
	ALLOW(read, "the archive", INT(1, 0)),
	ALLOW(write, "it is ready; a file"),
	ALLOW(openat, "makes a file", INT(3, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC),
	      BITS(4, UINT32_MAX & ~0777U, 0)),
	ALLOW(openat, "opens a directory that it has made", INT(3, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)),
	ALLOW(lseek, "the next piece of a file with holes", INT(3, SEEK_SET)),
	ALLOW(ftruncate, "the hole at its end"),
	ALLOW(linkat, "another name of a file", INT(5, 0)),
	ALLOW(mkdirat, "makes a directory", BITS(3, UINT32_MAX & ~0777U, 0)),
	ALLOW(symlinkat, "makes a symbolic link"),
	ALLOW(utimensat, "the time of a file"),
	ALLOW(close, "a file that is whole"),
	ALLOW(exit_group, "the end"),
};

/* The process that writes the log of --detach (detach_log.c). It opens files for appending only that it makes. */
static const struct filter_rule log_rules[] = {
	ALLOW(poll, "waiting for the VM's output"),
	RARELY(restart_syscall, "it continues after SIGSTOP and SIGCONT, or a freezer"),
	ALLOW(read, "it; the guest's command runs"),
	ALLOW(write, "the file; the caller, until the command runs"),
	ALLOW(renameat, "the file becomes the older half", SLOT(1, SLOT_OWN), SLOT(3, SLOT_OWN)),
	ALLOW(openat, "a new one", SLOT(1, SLOT_OWN),
	      INT(3, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW | O_CLOEXEC), INT(4, 0600)),
	ALLOW(fcntl, "is locked: it has a writer", INT(2, F_OFD_SETLK)),
	ALLOW(close, "the older half; what the caller waits for"),
	ALLOW(unlinkat, "--rm: both halves", SLOT(1, SLOT_OWN), INT(3, 0)),
	ALLOW(exit_group, "the end"),
};

/* A crashing main thread dies of the signal, with a core file. */
#define MAIN_CRASH                                                                                                     \
	ALLOW(rt_sigaction, "a crash: its signal gets its own action back", INT(1, SIGSEGV)),                          \
		ALLOW(rt_sigaction, "the same", INT(1, SIGBUS)), ALLOW(rt_sigaction, "the same", INT(1, SIGILL)),      \
		ALLOW(rt_sigaction, "the same", INT(1, SIGFPE)), ALLOW(rt_sigaction, "the same", INT(1, SIGABRT))

/* A main thread that a signal asked to end dies of it (ending_status_of). */
#define MAIN_END                                                                                                       \
	ALLOW(rt_sigaction, "the end by a signal: it gets its own action back", INT(1, SIGTERM)),                      \
		ALLOW(rt_sigaction, "the same", INT(1, SIGINT)), ALLOW(rt_sigaction, "the same", INT(1, SIGHUP)),      \
		ALLOW(rt_sigaction, "the same", INT(1, SIGQUIT)),                                                      \
		ALLOW(rt_sigprocmask, "the same: it is unblocked", INT(1, SIG_UNBLOCK)),                               \
		ALLOW(prctl, "the same: no core file", INT(1, PR_SET_DUMPABLE), LEN(2, 0))

#define NOTIFY                                                                                                         \
	ALLOW(sendto, "systemd: ready, stopping", SLOT(1, SLOT_NOTIFY), INT(4, MSG_DONTWAIT | MSG_NOSIGNAL), LEN(5, 0))

/* The terminal that mayfly was started on. */
#define TERMINAL                                                                                                       \
	ALLOW(ioctl, "the terminal: its foreground group", INT(1, STDIN_FILENO), INT(2, TIOCGPGRP)),                   \
		ALLOW(ioctl, "the terminal: its mode is saved", INT(1, STDIN_FILENO), INT(2, TCGETS)),                 \
		ALLOW(ioctl, "the terminal: raw, or as before", INT(1, STDIN_FILENO), INT(2, TCSETS))

/* Signals, a crash, a line of text: the main threads of processes that serve a VM, or a command, of another process. */
#define ATTENDS                                                                                                        \
	ALLOW(poll, "the main loop; room for a line on stderr"),                                                       \
		ALLOW(write, "the handler of a signal notes it", SLOT(1, SLOT_SIGNALS), LEN(3, 1)),                    \
		ALLOW(write, "messages to the user", INT(1, STDERR_FILENO)), LOG, CLOCK, TERMINAL,                     \
		RARELY(restart_syscall, "poll continues after the machine, or the control group, was frozen"),         \
		ALLOW(rt_sigreturn, "a signal handler returns"),                                                       \
		ALLOW(setitimer, "the end has a limit of time", INT(1, ITIMER_REAL)), MAIN_CRASH, MAIN_END,            \
		ALLOW(tgkill, "the end by a crash's signal", SLOT(1, SLOT_PID), SLOT(2, SLOT_MAIN_TID)),               \
		ALLOW(exit_group, "the end")

#define RESULT_NAME                                                                                                    \
	ALLOW(renameat2, "the result gets its name", SLOT(1, SLOT_RESULT_DIR), SLOT(3, SLOT_RESULT_DIR), INT(5, 0))

/*
 * The process outside of a jail (supervise.c), once the VM's process runs. It opens no file; Landlock keeps what it can
 * remove below the directories of its sockets and of its control group.
 */
static const struct filter_rule outer_rules[] = {
	ATTENDS,
	NOTIFY,
	ALLOW(read, "signals that were noted; what a passt that has ended said"),
	ALLOW(write, "a signal for the VM", SLOT(1, SLOT_TO), LEN(3, 1)),
	ALLOW(write, "the VM's record: it runs, it has ended", SLOT(1, SLOT_RECORD)),
	ALLOW(write, "the log of --detach: it runs", SLOT(1, SLOT_READY), LEN(3, 1)),
	ALLOW(recvfrom, "the VM asks for the terminal's mode", SLOT(1, SLOT_WATCH0), INT(4, MSG_DONTWAIT)),
	ALLOW(recvfrom, "the VM asks for a connection", SLOT(1, SLOT_WATCH1), INT(4, MSG_DONTWAIT)),
	ALLOW(sendmsg, "the answer", SLOT(1, SLOT_WATCH0), INT(3, MSG_DONTWAIT | MSG_NOSIGNAL)),
	ALLOW(sendmsg, "the answer, with the connection", SLOT(1, SLOT_WATCH1), INT(3, MSG_DONTWAIT | MSG_NOSIGNAL)),
	ALLOW(openat, "the guest connects: what has that port's name?", INT(3, O_PATH | O_NOFOLLOW | O_CLOEXEC)),
	ALLOW(newfstatat, "the guest connects: is it a socket?", INT(4, AT_EMPTY_PATH)),
	ALLOW(socket, "the guest connects", INT(1, AF_UNIX), INT(2, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC)),
	ALLOW(connect, "the guest connects"),
	ALLOW(close, "a connection was sent; the end"),
	ALLOW(write, "the result", SLOT(1, SLOT_RESULT)),
	ALLOW(write, "the client of a pool: the status", SLOT(1, SLOT_CLIENT)),
	RESULT_NAME,
	ALLOW(kill, "the VM does not end in time", SLOT(1, SLOT_CHILD), INT(2, SIGKILL)),
	ALLOW(wait4, "the VM, passt, or the keeper of an artifact has ended"),
	RARELY(pread64, "where there are control groups: did the VM use up its memory", SLOT(1, SLOT_EVENTS)),
	ALLOW(munmap, "the page of an artifact's keeper"),
	ALLOW(brk, "malloc"),
	ALLOW(newfstatat, "a socket's name: is it still ours", INT(4, AT_SYMLINK_NOFOLLOW)),
	ALLOW(renameat2, "a socket is taken aside, or what has its name back", INT(5, RENAME_NOREPLACE)),
	ALLOW(unlinkat, "it is removed, or the VM's record", INT(3, 0)),
	RARELY(rmdir, "where there are control groups: the jail's is removed"),
	RARELY(pread64, "where a control group is delegated: its controllers", SLOT(1, SLOT_WATCH2)),
	RARELY(write, "where a control group is delegated: its controllers are disabled", SLOT(1, SLOT_WATCH2)),
	RARELY(write, "where a control group is delegated: we return to it", SLOT(1, SLOT_WATCH3), LEN(3, 1)),
};

/* `mayfly exec`, once the command's streams have their threads (pump_rules). */
static const struct filter_rule exec_rules[] = {
	ATTENDS,
	ALLOW(read, "a signal that was noted", SLOT(1, SLOT_WATCH0), LEN(3, 1)),
	ALLOW(read, "a stream has ended", SLOT(1, SLOT_CHANGED), LEN(3, 8)),
	ALLOW(recvmsg, "the monitor: what became of the command", SLOT(1, SLOT_OWN), INT(3, MSG_CMSG_CLOEXEC)),
	ALLOW(sendto, "signals, and the terminal's size, for the command", SLOT(1, SLOT_OWN), INT(4, MSG_NOSIGNAL)),
	ALLOW(ioctl, "the terminal: its size", INT(1, STDIN_FILENO), INT(2, TIOCGWINSZ)),
	ALLOW(shutdown, "cp: all has come, for the process that unpacks it", INT(1, STDOUT_FILENO)),
	ALLOW(wait4, "cp: the process that packs, or unpacks"),
	ALLOW(munmap, "cp: the page of the latter"),
	ALLOW(write, "the result", SLOT(1, SLOT_RESULT)),
	ALLOW(newfstatat, "is the file beside it still ours", SLOT(1, SLOT_RESULT_DIR), INT(4, AT_SYMLINK_NOFOLLOW)),
	RARELY(unlinkat, "it could not be written", SLOT(1, SLOT_RESULT_DIR), INT(3, 0)),
	RESULT_NAME,
};

/* A snapshot: the state of vCPUs, and the process that writes the files, which has this list, too. */
#define SNAPSHOT                                                                                                       \
	ALLOW(ioctl, "a snapshot: a vCPU", INT(2, KVM_GET_REGS)), ALLOW(ioctl, "the same", INT(2, KVM_GET_SREGS)),     \
		ALLOW(ioctl, "the same", INT(2, KVM_GET_SREGS2)), ALLOW(ioctl, "the same", INT(2, KVM_GET_XSAVE2)),    \
		RARELY(ioctl, "the same", INT(2, KVM_GET_XSAVE)), ALLOW(ioctl, "the same", INT(2, KVM_GET_XCRS)),      \
		ALLOW(ioctl, "the same", INT(2, KVM_GET_DEBUGREGS)), ALLOW(ioctl, "the same", INT(2, KVM_GET_LAPIC)),  \
		ALLOW(ioctl, "the same", INT(2, KVM_GET_MSR_INDEX_LIST)),                                              \
		ALLOW(ioctl, "the same", INT(2, KVM_GET_MSRS)), ALLOW(ioctl, "the same", INT(2, KVM_GET_VCPU_EVENTS)), \
		ALLOW(ioctl, "the same", INT(2, KVM_GET_TSC_KHZ)), ALLOW(ioctl, "the clock", INT(2, KVM_GET_CLOCK)),   \
		ALLOW(ioctl, "what KVM can do", INT(2, KVM_CHECK_EXTENSION)),                                          \
		ALLOW(ioctl, "the guest was paused", INT(2, KVM_KVMCLOCK_CTRL)),                                       \
		RARELY(ioctl, "Btrfs, XFS: the image of a drive is shared with it", INT(2, FICLONE)),                  \
		ALLOW(newfstatat, "its files: are they regular", INT(4, AT_EMPTY_PATH)),                               \
		ALLOW(clone, "the process that writes them", LEN(1, CLONE_PIDFD | SIGCHLD)),                           \
		ALLOW(pread64, "which pages the guest has touched; a layer"), ALLOW(pwrite64, "the pages")

/*
 * The server of Firecracker's API (vmm/api/http.c). It parses what clients send: it opens
 * nothing, and hands each request to the main thread.
 */
static const struct filter_rule api_rules[] = {
	ALLOW(poll, "waiting for connections, requests and the main thread"),
	RARELY(restart_syscall, "it continues after SIGSTOP and SIGCONT"),
	ALLOW(accept4, "a client connects", SLOT(1, SLOT_LISTEN), INT(4, SOCK_CLOEXEC)),
	ALLOW(recvfrom, "a request", INT(4, MSG_DONTWAIT), LEN(5, 0)),
	ALLOW(sendto, "a reply", INT(4, MSG_DONTWAIT | MSG_NOSIGNAL), LEN(5, 0)),
	ALLOW(close, "a connection has ended"),
	ALLOW(write, "a request for the main thread", SLOT(1, SLOT_TO), LEN(3, 8)),
	ALLOW(read, "the main thread's reply", SLOT(1, SLOT_OWN), LEN(3, 8)),
	RARELY(brk, "malloc, if the heap has no room left"),
	COMMON,
	THREAD_EXIT,
};

#define MAIN                                                                                                           \
	ALLOW(poll, "THE main loop"), ALLOW(read, "signals, eventfds, init's messages"),                               \
		ALLOW(write, "messages to the user, to init and to loops; the VM's record"),                           \
		FUTEX("locks and conditions"), CLOCK,                                                                  \
		ALLOW(restart_syscall, "poll continues after SIGSTOP and SIGCONT"),                                    \
		ALLOW(rt_sigreturn, "a signal handler returns"),                                                       \
		ALLOW(setitimer, "the end has a limit of time", INT(1, ITIMER_REAL)),                                  \
		ALLOW(tgkill, "vCPUs are made to leave KVM_RUN; the end by a signal", SLOT(1, SLOT_PID)),              \
		ALLOW(madvise, "pages of our code that are not needed any more", INT(3, MADV_DONTNEED)),               \
		ALLOW(brk, "malloc"), ALLOW(munmap, "rings, large blocks and pages of keepers are given back"),        \
		ALLOW(close, "what the VM had"),                                                                       \
		ALLOW(ioctl, "whether a vCPU is halted for good", INT(2, KVM_GET_MP_STATE)),                           \
		ALLOW(ioctl, "the terminal: is it ours", INT(2, TIOCGPGRP)),                                           \
		ALLOW(ioctl, "the terminal: its mode", INT(2, TCGETS)),                                                \
		ALLOW(ioctl, "the terminal: its mode", INT(2, TCSETS)),                                                \
		ALLOW(ioctl, "the terminal: its size", INT(2, TIOCGWINSZ)), ALLOW(accept4, "`mayfly exec` connects"),  \
		ALLOW(recvmsg, "its request"), ALLOW(fcntl, "is a long one in a memfd", INT(2, F_GET_SEALS)),          \
		ALLOW(sendmsg, "the answer, with its ends of the streams"),                                            \
		ALLOW(fcntl, "drives are unlocked", INT(2, F_OFD_SETLK)),                                              \
		ALLOW(socketpair, "the streams of its command", INT(1, AF_UNIX)),                                      \
		ALLOW(newfstatat, "a socket's name: is it still ours", INT(4, AT_SYMLINK_NOFOLLOW)),                   \
		ALLOW(renameat2, "a socket is taken aside, or what has its name back", INT(5, RENAME_NOREPLACE)),      \
		ALLOW(unlinkat, "it is removed, or the VM's record", INT(3, 0)), RESULT_NAME,                          \
		ALLOW(wait4, "passt, or the keeper of an artifact, has ended"),                                        \
		ALLOW(close_range, "all that is open, before async_teardown clones", INT(3, 0)),                       \
		ALLOW(clone, "async_teardown", INT(1, CLONE_VM)), SNAPSHOT, MAIN_CRASH, MAIN_END, NOTIFY,              \
		ALLOW(exit_group, "the end")

static const struct filter_rule main_rules[] = { MAIN };

/* With --forkable (vm/vm_fork.c): at a fork, RAM is mapped again. A filter does not know where RAM is. Nothing is executable. */
#define RAM_AGAIN(more) INT(3, PROT_READ | PROT_WRITE), INT(4, MAP_PRIVATE | MAP_FIXED | (more))

static const struct filter_rule main_fork_rules[] = {
	ALLOW(mmap, "a fork: RAM is private, and empty where it had no data", RAM_AGAIN(MAP_ANONYMOUS | MAP_NORESERVE)),
	ALLOW(mmap, "the same: what is frozen of it", RAM_AGAIN(0)),
	ALLOW(madvise, "the same: RAM is not for core files", INT(3, MADV_DONTDUMP)),
	ALLOW(madvise, "the same: its pages are large", INT(3, MADV_HUGEPAGE)),
	ALLOW(madvise, "the same: but at the beginning", INT(3, MADV_NOHUGEPAGE)),
	ALLOW(lseek, "the same: what of it has data", INT(3, SEEK_DATA)),
	ALLOW(lseek, "the same: and what has none", INT(3, SEEK_HOLE)),
	MAIN,
};

/*
 * With Firecracker's API: a request names the image that a drive gets while the guest runs, and
 * Firecracker's own main thread opens it as late; so with the files of a snapshot. It opens what exists, and makes
 * only the latter, under names that no link takes elsewhere (snapshot/file.c).
 */
#define IMAGE_FLAGS (O_CLOEXEC | O_NONBLOCK | O_NOCTTY)

static const struct filter_rule main_api_rules[] = {
	ALLOW(openat, "another image of a drive", INT(3, O_RDWR | IMAGE_FLAGS)),
	ALLOW(openat, "the same, read-only", INT(3, O_RDONLY | IMAGE_FLAGS)),
	ALLOW(newfstatat, "does the drive have it already", INT(4, 0)),
	ALLOW(fstatfs, "on what file system is it"),
	ALLOW(preadv2, "can it be read without a wait", INT(6, RWF_NOWAIT)),
	ALLOW(ioctl, "is it a read-only device", INT(2, BLKROGET)),
	RARELY(ioctl, "the size of a block device", INT(2, BLKGETSIZE64)),
	ALLOW(lseek, "the size of the image that a drive has", LEN(2, 0), INT(3, SEEK_END)),
	ALLOW(openat, "a snapshot: a new file of it", INT(3, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC),
	      INT(4, 0600)),
	ALLOW(ftruncate, "the same: it is of zeros"),
	ALLOW(prctl, "the process that writes them ends with mayfly", INT(1, PR_SET_PDEATHSIG), LEN(2, SIGKILL)),
	ALLOW(fsync, "they are written, and renamed"),
	ALLOW(renameat2, "they get their names", INT(5, 0)),
	ALLOW(openat, "their directory, to sync it", INT(3, O_RDONLY | O_DIRECTORY | O_CLOEXEC)),
	MAIN,
};

#endif
