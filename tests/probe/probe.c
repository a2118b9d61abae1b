/*
 * Tries what a compromised thread of mayfly would try. Linked into a build of mayfly of its own
 * (build/mayfly-probe), in which each thread calls probe_confined as the first thing behind its filter.
 *
 *	MAYFLY_PROBE=KIND:ATTEMPT[:deaf] mayfly-probe run ...		KIND: main, io, vsock, vcpu, pump, streams, outer, ...
 *
 * An attempt that comes back ends the process with 200, one that a ring has refused (EACCES) with 201: nothing else in
 * mayfly uses these. deaf: the main thread hears neither of crashes nor of the clock of ending.c.
 *
 * hang is no attempt: the thread does nothing more; a loop's from its first turn on, when the VM has started.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/core/timer.h"
#include "vmm/process/confine.h"
#include "vmm/process/crash.h"
#include "vmm/vm/timeline.h"

#define PROBE_CAME_BACK 200
#define PROBE_REFUSED 201

/* Of the thread that has one. */
static _Thread_local struct io_uring *ring;

int __real_io_uring_enable_rings(struct io_uring *r);
int __wrap_io_uring_enable_rings(struct io_uring *r);
int __wrap_io_uring_enable_rings(struct io_uring *r)
{
	ring = r;
	return __real_io_uring_enable_rings(r);
}

/* Filters do not see submissions: the kernel performs them, or the ring refuses them. */
static long try_ring(const struct io_uring_sqe *what)
{
	struct io_uring_sqe *sqe = ring ? io_uring_get_sqe(ring) : NULL;
	struct io_uring_cqe *cqe;

	if (!sqe)
		return -ENODEV;
	*sqe = *what;
	if (io_uring_submit_and_wait(ring, 1) < 0 || io_uring_peek_cqe(ring, &cqe) < 0)
		return -EIO;
	return cqe->res;
}

static long try_ring_openat(void)
{
	return try_ring(&(struct io_uring_sqe){
		.opcode = IORING_OP_OPENAT, .fd = AT_FDCWD, .addr = (uintptr_t) "/etc/passwd", .open_flags = O_RDONLY });
}

static long try_ring_fixed_openat(void)
{
	return try_ring(&(struct io_uring_sqe){ .opcode = IORING_OP_OPENAT,
						.flags = IOSQE_FIXED_FILE,
						.addr = (uintptr_t) "/etc/passwd",
						.open_flags = O_RDONLY });
}

static long try_ring_socket(void)
{
	return try_ring(&(struct io_uring_sqe){ .opcode = IORING_OP_SOCKET, .fd = AF_INET, .off = SOCK_STREAM });
}

static long try_ring_connect(void)
{
	return try_ring(&(struct io_uring_sqe){ .opcode = IORING_OP_CONNECT, .fd = 3 });
}

/* A file that is open, but not the ring's. */
static long try_ring_write(void)
{
	return try_ring(&(struct io_uring_sqe){
		.opcode = IORING_OP_WRITE, .fd = STDERR_FILENO, .addr = (uintptr_t) "x", .len = 1 });
}

static long try_openat(void)
{
	return syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY);
}

static long try_open(void)
{
	return syscall(SYS_open, "/etc/passwd", O_RDONLY);
}

static long try_execve(void)
{
	char *argv[] = { (char *)(uintptr_t) "/bin/true", NULL };

	return syscall(SYS_execve, argv[0], argv, NULL);
}

static long try_socket(void)
{
	return syscall(SYS_socket, AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

static long try_ptrace(void)
{
	return syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0);
}

static long try_mmap_exec(void)
{
	return syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static long try_mprotect_exec(void)
{
	static uint8_t page[8192];

	return syscall(SYS_mprotect, (uintptr_t)page & ~4095UL, 4096, PROT_READ | PROT_EXEC);
}

static long try_ring_setup(void)
{
	struct io_uring_params p = { 0 };

	return syscall(SYS_io_uring_setup, 4, &p);
}

static long try_ring_register(void)
{
	return syscall(SYS_io_uring_register, 3, IORING_REGISTER_PROBE, NULL, 0);
}

/* The main thread may fork, for a snapshot, and nothing else. */
static long try_clone(void)
{
	return syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
}

static long try_kill(void)
{
	return syscall(SYS_kill, 1, SIGKILL);
}

static long try_tgkill(void)
{
	return syscall(SYS_tgkill, getppid(), getppid(), SIGKILL);
}

static long try_ioctl(void)
{
	return syscall(SYS_ioctl, 3, KVM_CREATE_VM, 0);
}

/* A file that no thread's filter names. */
static long try_write(void)
{
	return syscall(SYS_write, 999, "x", 1);
}

/* Past the kernel's own check of a filter's calls: another table of numbers. */
static long try_i386(void)
{
	long ret;

	__asm__ volatile("int $0x80" : "=a"(ret) : "a"(20 /* getpid */) : "memory");
	return ret;
}

static long try_crash(void)
{
	static volatile uintptr_t address = 8;

	*(volatile int *)address = 1;
	return 0;
}

static int __attribute__((noinline)) use_up_stack(volatile char *above, unsigned depth)
{
	volatile char here[4096];

	here[0] = above[0];
	return (depth ? use_up_stack(here, depth - 1) : 0) + here[0];
}

static long try_stack(void)
{
	volatile char here = 0;

	return use_up_stack(&here, 1 << 16);
}

/* This one may: the heap grows. */
static long try_malloc(void)
{
	for (unsigned i = 0; i < 16; i++) {
		char *memory = malloc(100000);

		if (!memory)
			return -1;
		memory[0] = 1;
	}
	return 0;
}

static long try_ring_read(void)
{
	static char byte;

	return try_ring(&(struct io_uring_sqe){
		.opcode = IORING_OP_READ, .fd = STDIN_FILENO, .addr = (uintptr_t)&byte, .len = 1, .off = UINT64_MAX });
}

static const struct {
	const char *name;
	long (*run)(void);
} attempts[] = {
	{ "openat", try_openat },
	{ "open", try_open },
	{ "execve", try_execve },
	{ "socket", try_socket },
	{ "ptrace", try_ptrace },
	{ "mmap", try_mmap_exec },
	{ "mprotect", try_mprotect_exec },
	{ "io_uring_setup", try_ring_setup },
	{ "io_uring_register", try_ring_register },
	{ "clone", try_clone },
	{ "kill", try_kill },
	{ "tgkill", try_tgkill },
	{ "ioctl", try_ioctl },
	{ "write", try_write },
	{ "i386", try_i386 },
	{ "crash", try_crash },
	{ "stack", try_stack },
	{ "malloc", try_malloc },
	{ "ring_openat", try_ring_openat },
	{ "ring_fixed_openat", try_ring_fixed_openat },
	{ "ring_socket", try_ring_socket },
	{ "ring_connect", try_ring_connect },
	{ "ring_write", try_ring_write },
	{ "ring_read", try_ring_read },
};

/* The jail clears the environment. */
static char probe_what[64];

static void __attribute__((constructor)) keep_what(void)
{
	const char *what = getenv("MAYFLY_PROBE");

	if (what)
		strncpy(probe_what, what, sizeof(probe_what) - 1);
}

static _Thread_local bool hangs;

static void __attribute__((noreturn)) hang(void)
{
	for (;;)
		__asm__ volatile("pause" ::: "memory");
}

/* In the place of timers_run (ld --wrap), which a loop calls in each turn. */
void __real_timers_run(struct timers *t, uint64_t now_ns);
void __wrap_timers_run(struct timers *t, uint64_t now_ns);
void __wrap_timers_run(struct timers *t, uint64_t now_ns)
{
	if (hangs)
		hang();
	__real_timers_run(t, now_ns);
}

static const char *const kinds[THREAD_NUM_KINDS] = {
	[THREAD_MAIN] = "main",
	[THREAD_MAIN_API] = "main",
	[THREAD_MAIN_FORK] = "main",
	[THREAD_IO] = "io",
	[THREAD_IO_API] = "io",
	[THREAD_VSOCK] = "vsock",
	[THREAD_VCPU] = "vcpu",
	[THREAD_PUMP] = "pump",
	[THREAD_STREAMS] = "streams",
	[THREAD_UNPACK] = "unpack",
	[THREAD_OUTER] = "outer",
	[THREAD_EXEC] = "exec",
	[THREAD_API] = "api",
	[THREAD_CLAIM] = "claim",
	[THREAD_IO_SYNC] = "io_sync",
	[THREAD_IO_WORKER] = "io_worker",
	[THREAD_VSOCK_SYNC] = "vsock_sync",
};

/* In the place of timeline_count_instructions (ld --wrap): a counter, where the CPU has none. */
void __wrap_timeline_count_instructions(struct timeline *t);
void __wrap_timeline_count_instructions(struct timeline *t)
{
	t->counter_fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
}

void probe_start(void)
{
	sigset_t set;

	if (strstr(probe_what, ":deaf") && !strcmp(log_thread(), "main")) {
		sigemptyset(&set);
		sigaddset(&set, CRASH_SIGNAL);
		sigaddset(&set, SIGALRM);
		pthread_sigmask(SIG_BLOCK, &set, NULL);
	}
}

void probe_confined(enum thread_kind kind)
{
	const char *what = probe_what;
	size_t len = strlen(kinds[kind]);
	long ret;

	if (strncmp(what, kinds[kind], len) != 0 || what[len] != ':')
		return;
	what += len + 1;
	hangs = strncmp(what, "hang", 4) == 0;
	if (hangs && (kind == THREAD_MAIN || kind == THREAD_MAIN_FORK || kind == THREAD_VCPU || kind == THREAD_PUMP))
		hang();
	for (size_t i = 0; i < MF_ARRAY_SIZE(attempts); i++) {
		if (strncmp(attempts[i].name, what, strcspn(what, ":")) != 0 ||
		    attempts[i].name[strcspn(what, ":")] != '\0')
			continue;
		ret = attempts[i].run();
		syscall(SYS_exit_group, ret == -EACCES ? PROBE_REFUSED : PROBE_CAME_BACK);
	}
}
