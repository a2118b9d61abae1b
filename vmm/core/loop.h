/*
 * A loop: one thread that does all input and output of its devices. Each device belongs
 * to exactly one loop and all of its work happens on that thread, so device files hold no
 * lock. There are two kinds (enum loop_kind), which differ in what the loop may reach.
 * There are two engines with the same behaviour: io_uring, and system calls where
 * io_uring is forbidden.
 *
 * Life: loop_new -> loop_add_file, loop_watch (set-up thread) -> loop_start -> loop_stop
 * -> loop_free. A ring is made disabled. It is restricted to the few operations below and
 * to the files added before loop_start, and only then enabled, by its own thread.
 * Afterwards nothing can be added (io_uring_register(2) IORING_REGISTER_RESTRICTIONS).
 * All files can still be given up, and on a loop of LOOP_EXCHANGEABLE they can be
 * exchanged for others.
 *
 * A turn of the loop: wait for completions; take all of them; fire timers; run their
 * callbacks; run the deferred tasks; submit. So a device raises at most one interrupt per
 * turn, however many requests completed in it.
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

#define LOOP_FILES_MAX 128	/* eventfds included */
#define LOOP_MEMORY_FILES_MAX 4 /* taps included */
#define LOOP_ENTRIES 256	/* submission queue; a full one is a result (false), not an error */

enum loop_kind {
	LOOP_FIXED, /* reads, writes, fsync, fallocate, poll and cancel, on files that are fixed when the loop starts */
	/*
	 * The same, but a file can be exchanged for another that the process has open. It
	 * has a price: the seccomp filter of the loop's thread must allow
	 * io_uring_register(2) (IORING_REGISTER_FILES_UPDATE on the ring's fd). So use it
	 * only where an exchange may be requested.
	 */
	LOOP_EXCHANGEABLE,
	LOOP_SOCKETS, /* poll and cancel, on file descriptors */
};

enum loop_engine {
	LOOP_ENGINE_AUTO, /* the user's: LOOP_ENGINE_RING, unless the host forbids that. For loop_new the same as that. */
	LOOP_ENGINE_RING,
	LOOP_ENGINE_SYNC, /* more threads, the workers, for operations that can only block (engine_sync.c) */
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
	OP_WATCH, /* a watch's: completes each time that its eventfd is signalled */
};

/*
 * One operation in flight, embedded in its owner. The owner does not touch it until done
 * is called, once, on the loop's thread. res is the operation's result: bytes or -errno
 * (-ECANCELED after loop_cancel).
 */
struct op {
	void (*done)(struct op *op, int res);

	/* The rest is the loop's. The request: */
	enum op_kind kind;
	int file;
	const struct iovec *iov; /* of OP_READ and OP_WRITE; in the owner's memory, or buf */
	struct iovec buf;
	unsigned num; /* of iov */
	/*
	 * OP_POLL: the events. OP_FALLOCATE: the mode. OP_FSYNC: whether data alone is enough.
	 * OP_WATCH: whether the engine still watches.
	 */
	int flags;
	uint64_t offset;
	uint64_t len; /* of OP_FALLOCATE */

	/* The result: */
	int state; /* engine's */
	int res;
	STAILQ_ENTRY(op) next; /* the engine's, and then loop.completed's */
};

STAILQ_HEAD(op_list, op);

/*
 * Work for the end of the present turn, embedded in its owner; queued at most once at a
 * time.
 */
struct task {
	void (*run)(struct task *task);
	bool queued;		 /* loop's */
	STAILQ_ENTRY(task) next; /* loop's */
};

STAILQ_HEAD(task_list, task);

/* An eventfd: each signal calls fire on the loop's thread. Embedded in its owner. */
struct watch {
	void (*fire)(struct watch *watch);
	struct op op;	/* loop's */
	uint64_t count; /* loop's */
	int file;	/* loop's */
	struct loop *loop;
	struct watch *next; /* loop's */
};

/*
 * Makes a stopped loop. Its thread is called name (at most 15 bytes, kept, not copied).
 * Returns 0 or -errno with e set.
 *
 * LOOP_FIXED: reads, writes, fsync and polls of the files that were added before
 * loop_start, and of no others. LOOP_SOCKETS: watches, loop_poll and loop_cancel alone,
 * for a device whose files come and go. A file index is then the file descriptor itself.
 * Once a poll reports that data can move, non-blocking system calls move it.
 */
int loop_new(struct loop **ret, const char *name, enum loop_engine engine, enum loop_kind kind, struct err *e);

/*
 * Stops the loop if it runs, then frees it; NULL is fine. Files stay open: their owners
 * close them.
 */
void loop_free(struct loop *loop);

/*
 * Makes fd (not owned; open until loop_free) usable on this loop, which is LOOP_FIXED.
 * Returns its index for the operations below, or -EMFILE. Before loop_start.
 */
int loop_add_file(struct loop *loop, int fd);

/*
 * How the loop uses a file. On the loop's thread, or before it runs. There may be
 * LOOP_MEMORY_FILES_MAX of LOOP_ACCESS_MEMORY, all before loop_start; others are then
 * LOOP_ACCESS_ENGINE, the default.
 */
enum loop_access {
	LOOP_ACCESS_ENGINE, /* the engine does everything */
	/* The same, but it leaves all reads and writes to a worker: they may wait even if asked not to. */
	LOOP_ACCESS_STALLS,
	/*
	 * A read is tried by a system call of the loop's thread that does not wait (RWF_NOWAIT),
	 * where that takes less than the engine: see is_lone_read in loop_op.c.
	 */
	LOOP_ACCESS_CACHED,
	/*
	 * In memory, where no access waits for a device. Writes are system calls of the loop's
	 * thread and complete in the same turn, as do syncs, which do nothing, and such reads.
	 */
	LOOP_ACCESS_MEMORY,
	/*
	 * Non-blocking and without a position: a tap. Reads and writes are system calls of the
	 * loop's thread; where the file would block, the result is -EAGAIN, and the caller polls.
	 * It counts as one in memory.
	 */
	LOOP_ACCESS_PROMPT,
};
void loop_set_access(struct loop *loop, int file, enum loop_access access);

/* For the guard: the descriptor of the i-th file in memory, or -1 if there are fewer. */
int loop_memory_fd(const struct loop *loop, unsigned i);

/*
 * On the loop's thread, or before it runs: makes file index refer to fd from here on. No
 * operation on it may be in flight. Its access is LOOP_ACCESS_ENGINE then. Returns 0,
 * -EACCES on a loop that is not LOOP_EXCHANGEABLE, or another -errno.
 */
int loop_replace_file(struct loop *loop, int file, int fd);

/* Watches eventfd (not owned). Before loop_start. Returns 0 or -EMFILE. */
int loop_watch(struct loop *loop, struct watch *watch, int eventfd);

/*
 * Sets the guard. Each thread of the loop calls it before it serves anything, once it has
 * all that it needs, to drop privileges (a seccomp filter). It returns 0, or -errno, on
 * which loop_start fails. Before loop_start.
 */
void loop_set_guard(struct loop *loop, int (*guard)(void *ctx, enum loop_thread which), void *ctx);

/*
 * For the guard: the descriptors of the ring, of the worker's eventfd, of the epoll set,
 * or -1; and of the wake eventfd.
 */
int loop_ring_fd(const struct loop *loop);
int loop_done_fd(const struct loop *loop);
int loop_epoll_fd(const struct loop *loop);
int loop_wake_fd(const struct loop *loop);

/*
 * The descriptor of a file, or -1 if the index is too large. On LOOP_SOCKETS: of a
 * watched file.
 */
int loop_file(const struct loop *loop, unsigned index);

/*
 * Starts the threads. Returns 0 or -errno with e set, which names the cause if io_uring
 * is switched off.
 */
int loop_start(struct loop *loop, struct err *e);

/*
 * Ends the thread after the present turn and waits for it. Cancels the operations still
 * in flight and waits for them. The kernel then holds no file for the loop any more: a
 * peer that waits for the last copy to be closed waits for the owners only. (On Linux
 * before 6.3, regular files and block devices may stay open for some 15 ms.)
 */
void loop_stop(struct loop *loop);

/*
 * Runs fn(arg) on the loop's thread and returns its result. The caller must not be the
 * loop's thread. On a loop that is not running, fn runs on the calling thread.
 */
int loop_call(struct loop *loop, int (*fn)(void *arg), void *arg);

/*
 * As loop_call, but while fn(arg) returns more than 0, it runs again at the end of each
 * turn that something else has caused, for timeout_ms at most. Returns the last result.
 * On a loop that is not running, fn runs once.
 */
int loop_call_until(struct loop *loop, int (*fn)(void *arg), void *arg, unsigned timeout_ms);

/*
 * How many turns the loop has made. For tests: an idle loop makes none. It counts itself,
 * as loop_call does, as one turn or two.
 */
uint64_t loop_turns(struct loop *loop);

/* On the loop's thread: the number of the present turn. */
uint64_t loop_this_turn(const struct loop *loop);

/*
 * On the loop's thread: runs task at the end of this turn; when called from a running
 * task, at the end of the next.
 */
void loop_defer(struct loop *loop, struct task *task);

/*
 * On the loop's thread: its timers (timer.h). Timers that are still set when the loop
 * ends do not fire.
 */
struct timers *loop_timers(struct loop *loop);

/*
 * On the loop's thread: start an operation on a file index. False: there is no room and
 * nothing was started; try again at the end of the turn (loop_defer). iov and buffers
 * stay the caller's and stay valid until op->done.
 */
bool loop_readv(struct loop *loop, struct op *op, int file, const struct iovec *iov, unsigned num, uint64_t offset);
bool loop_writev(struct loop *loop, struct op *op, int file, const struct iovec *iov, unsigned num, uint64_t offset);
bool loop_read(struct loop *loop, struct op *op, int file, void *buf, unsigned len, uint64_t offset);
bool loop_write(struct loop *loop, struct op *op, int file, const void *buf, unsigned len, uint64_t offset);
bool loop_fsync(struct loop *loop, struct op *op, int file, bool data_only);
bool loop_fallocate(struct loop *loop, struct op *op, int file, int mode, uint64_t offset, uint64_t len);

/*
 * Polls once; res is the events or -errno. As with poll(2), POLLERR and POLLHUP are
 * always included. No other event ends the poll: in particular not the end of a peer's
 * stream (POLLRDHUP), after which a socket may still be writable.
 */
bool loop_poll(struct loop *loop, struct op *op, int file, short events);

/* As offset: the file has no position (eventfd, pipe, terminal). */
#define LOOP_NO_OFFSET UINT64_MAX

/*
 * On the loop's thread: asks op to end early. Its done still comes, with -ECANCELED or
 * its result.
 */
void loop_cancel(struct loop *loop, struct op *op);

/*
 * On the loop's thread: runs completions, and nothing else, until *counter is 0. For
 * reset and stop of a device that counts its own operations in flight and has ended
 * submission. Callbacks run in it.
 */
void loop_drain(struct loop *loop, const unsigned *counter);

/*
 * Describes the negative errno of an operation, as strerror(3) does. The exception is
 * -ECANCELED of an operation that nobody cancelled: it can only block, and the kernel may
 * not start a thread for it.
 */
const char *loop_strerror(int res);

#endif
