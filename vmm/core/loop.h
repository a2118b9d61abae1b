/*
 * A loop: one thread that does all the input and output of its devices. Each device belongs to exactly one loop and all
 * of its work happens on that thread, so device files hold no lock. There are two kinds (enum loop_kind), by what it may
 * reach, and two engines, which do the same: io_uring, and system calls where that is forbidden.
 *
 * Life: loop_new -> loop_add_file, loop_watch (set-up thread) -> loop_start -> loop_stop -> loop_free. A ring is made
 * disabled, restricted to the few operations below and to the files added before loop_start, and only then enabled, by
 * its own thread; afterwards nothing can be added (io_uring_register(2) IORING_REGISTER_RESTRICTIONS), but all files can
 * be given up, and they can be exchanged for others on a loop of LOOP_EXCHANGEABLE.
 *
 * A turn of the loop: wait for completions; take all of them; fire timers; run their callbacks; run the
 * deferred tasks; submit. So a device raises at most one interrupt per turn, however many requests completed in it.
 */
#ifndef MF_CORE_LOOP_H
#define MF_CORE_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/uio.h>

struct err;
struct loop;
struct timers;

#define LOOP_FILES_MAX 128 /* eventfds included */
#define LOOP_ENTRIES 256   /* submission queue; a full one is a result (false), not an error */

enum loop_kind {
	LOOP_FIXED, /* reads, writes, fsync, fallocate, poll and cancel, on files that are fixed when the loop starts */
	/*
	 * The same, but a file can be exchanged for another that the process has open. It costs something: a seccomp
	 * filter of the loop's thread has to let io_uring_register(2) pass (IORING_REGISTER_FILES_UPDATE on the ring's
	 * fd). So: only where somebody may ask for it.
	 */
	LOOP_EXCHANGEABLE,
	LOOP_SOCKETS, /* poll and cancel, on file descriptors */
};

enum loop_engine {
	LOOP_ENGINE_RING,
	LOOP_ENGINE_SYNC, /* one thread more: the worker, for what can only block (engine_sync.c) */
};

enum loop_thread {
	LOOP_THREAD_MAIN,   /* where callbacks run */
	LOOP_THREAD_WORKER, /* of LOOP_ENGINE_SYNC, unless the loop is LOOP_SOCKETS */
	LOOP_NUM_THREADS,
};

enum op_kind {
	OP_READ,
	OP_WRITE,
	OP_FSYNC,
	OP_FALLOCATE,
	OP_POLL,
};

/*
 * One operation in flight, embedded in its owner and untouched by the owner until done is called, once, on the loop's
 * thread. res is the operation's result: bytes or -errno (-ECANCELED after loop_cancel).
 */
struct op {
	void (*done)(struct op *op, int res);

	/* The rest is the loop's. What was asked for: */
	enum op_kind kind;
	int file;
	const struct iovec *iov; /* of OP_READ and OP_WRITE; in the owner's memory, or buf */
	struct iovec buf;
	unsigned num; /* of iov */
	int flags;    /* the events of OP_POLL, the mode of OP_FALLOCATE; of OP_FSYNC, whether data is all */
	uint64_t offset;
	uint64_t len; /* of OP_FALLOCATE */

	/* What became of it: */
	int state; /* engine's */
	int res;
	STAILQ_ENTRY(op) next; /* engine's, and then of loop.completed */
};

STAILQ_HEAD(op_list, op);

/* Work for the end of the present turn, embedded in its owner; queued at most once at a time. */
struct task {
	void (*run)(struct task *task);
	bool queued;		 /* loop's */
	STAILQ_ENTRY(task) next; /* loop's */
};

STAILQ_HEAD(task_list, task);

/* An eventfd whose every signal calls fire on the loop's thread. Embedded in its owner. */
struct watch {
	void (*fire)(struct watch *watch);
	struct op op;	/* loop's */
	uint64_t count; /* loop's */
	int file;	/* loop's */
	struct loop *loop;
	struct watch *next; /* loop's */
};

/*
 * Makes a stopped loop; name (at most 15 bytes, kept) becomes its thread's. Returns 0 or -errno with e set.
 *
 * LOOP_FIXED: reads, writes, fsync and polls of the files that were added before loop_start, and of no others.
 * LOOP_SOCKETS: watches, loop_poll and loop_cancel alone, for a device whose files come and go. A file index is then the
 * file descriptor itself; data moves by non-blocking system calls when a poll has said that it can.
 */
int loop_new(struct loop **ret, const char *name, enum loop_engine engine, enum loop_kind kind, struct err *e);

/* Stops if it runs, then frees; NULL is fine. Files stay open, they are the owners'. */
void loop_free(struct loop *loop);

/*
 * Makes fd (not owned; open until loop_free) usable on this loop, which is LOOP_FIXED. Returns its index for the
 * operations below, or -EMFILE. Before loop_start.
 */
int loop_add_file(struct loop *loop, int fd);

/*
 * On the loop's thread (or before it runs): file index stands for fd from here on. No operation on it is in flight.
 * Returns 0, -EACCES on a loop that is not LOOP_EXCHANGEABLE, or another -errno.
 */
int loop_replace_file(struct loop *loop, int file, int fd);

/* Watches eventfd (not owned). Before loop_start. Returns 0 or -EMFILE. */
int loop_watch(struct loop *loop, struct watch *watch, int eventfd);

/*
 * What each thread of the loop calls before it serves anything, once it has all that it needs: to give up the rest
 * (a seccomp filter). Returns 0 or -errno, on which loop_start fails. Before loop_start.
 */
void loop_set_guard(struct loop *loop, int (*guard)(void *ctx, enum loop_thread which), void *ctx);

/* For the guard: the descriptors of the ring, of what the worker signals, of an epoll set, or -1; of the wake eventfd. */
int loop_ring_fd(const struct loop *loop);
int loop_done_fd(const struct loop *loop);
int loop_epoll_fd(const struct loop *loop);
int loop_wake_fd(const struct loop *loop);

/* The descriptor of a file, or -1 if there are not so many. On LOOP_SOCKETS: what is watched. */
int loop_file(const struct loop *loop, unsigned index);

/* Starts the threads. Returns 0 or -errno with e set, naming the cause where io_uring is switched off. */
int loop_start(struct loop *loop, struct err *e);

/*
 * Ends the thread after the present turn and waits for it. Operations still in flight are cancelled and waited for. The
 * kernel then holds the files no more for the loop: who waits for their last copy to be closed, waits for the owners' (on
 * Linux before 6.3, regular files and block devices may stay open for some 15 ms).
 */
void loop_stop(struct loop *loop);

/*
 * Runs fn(arg) on the loop's thread and returns when it has returned; its result is returned. The caller must not be
 * the loop's thread. On a loop that is not running, fn runs on the calling thread.
 */
int loop_call(struct loop *loop, int (*fn)(void *arg), void *arg);

/*
 * The same, and as long as that is more than 0, fn(arg) runs again at the end of each turn that something else has caused,
 * until timeout_ms are over; the last result is returned. On a loop that is not running, once.
 */
int loop_call_until(struct loop *loop, int (*fn)(void *arg), void *arg, unsigned timeout_ms);

/* How many turns it has made. For tests: a loop that has nothing to do makes none. As loop_call, which is one, or two. */
uint64_t loop_turns(struct loop *loop);

/* On the loop's thread: the number of the present turn. */
uint64_t loop_this_turn(const struct loop *loop);

/* On the loop's thread: runs task at the end of this turn (or of the next, when called from a task that runs). */
void loop_defer(struct loop *loop, struct task *task);

/* On the loop's thread: its timers (timer.h). Those still set when the loop ends do not fire. */
struct timers *loop_timers(struct loop *loop);

/*
 * On the loop's thread: start an operation on a file index. False: there is no room, nothing was started,
 * try again at the end of the turn (loop_defer). iov and buffers stay the caller's and stay valid until op->done.
 */
bool loop_readv(struct loop *loop, struct op *op, int file, const struct iovec *iov, unsigned num, uint64_t offset);
bool loop_writev(struct loop *loop, struct op *op, int file, const struct iovec *iov, unsigned num, uint64_t offset);
bool loop_read(struct loop *loop, struct op *op, int file, void *buf, unsigned len, uint64_t offset);
bool loop_write(struct loop *loop, struct op *op, int file, const void *buf, unsigned len, uint64_t offset);
bool loop_fsync(struct loop *loop, struct op *op, int file, bool data_only);
bool loop_fallocate(struct loop *loop, struct op *op, int file, int mode, uint64_t offset, uint64_t len);

/*
 * The same: once; res is the events or -errno. As for poll(2), POLLERR and POLLHUP need not be asked for. What was not asked for
 * ends no poll: not the end of a peer's stream (POLLRDHUP), after which a socket may still be written to.
 */
bool loop_poll(struct loop *loop, struct op *op, int file, short events);

/* As offset: the file has no position (eventfd, pipe, terminal). */
#define LOOP_NO_OFFSET UINT64_MAX

/* On the loop's thread: asks that op end early; its done still comes, with -ECANCELED or its result. */
void loop_cancel(struct loop *loop, struct op *op);

/*
 * On the loop's thread: runs completions, and nothing else, until *counter is 0. For reset and stop of a device that
 * counts its own operations in flight and has ended submission. Callbacks run in it.
 */
void loop_drain(struct loop *loop, const unsigned *counter);

/*
 * What the negative errno of an operation means. It is strerror(3)'s, but for -ECANCELED of an operation that nobody has
 * cancelled: it can only be waited for, and the kernel may start no thread that does so.
 */
const char *loop_strerror(int res);

#endif
