/*
 * What moves the data of a loop: an engine, and the parts of a loop that it works on. For
 * loop.c, loop_call.c and the engines alone.
 *
 *	engine_ring.c		io_uring: the kernel performs the operations
 *	engine_sync.c		system calls of the loop's thread and of a worker, where io_uring is forbidden
 *	tests/unit/mock_loop.h	a test, on the loop's thread, completes operations when and how it wants
 *
 * An engine's loop is a struct of its own that begins with a struct loop; engine_ops.size
 * is its size.
 */
#ifndef MF_CORE_ENGINE_H
#define MF_CORE_ENGINE_H

#include <pthread.h>

#include "vmm/core/loop.h"
#include "vmm/core/timer.h"

#define LOOP_NAME_MAX 16

enum engine_wait {
	ENGINE_NO_WAIT,	    /* take what has completed */
	ENGINE_WAIT,	    /* sleep until an operation has ended */
	ENGINE_WAIT_TIMERS, /* or until the next timer is due */
};

struct engine_ops {
	size_t size;
	bool watches;	    /* has OP_WATCH; else the loop reads an eventfd each time */
	bool hands_over;    /* an operation on a disk to another thread: see is_lone_read in loop_op.c */
	const char *suffix; /* suffix of the thread's name, for a kind with another filter */
	/* In loop_new, or NULL. Returns 0 or -errno with e set; done is called either way. */
	int (*open)(struct loop *loop, struct err *e);
	/*
	 * On the set-up thread, when all files are known. Returns 0 or -errno with e set;
	 * done is called either way.
	 */
	int (*make)(struct loop *loop, struct err *e);
	/* First on the loop's thread, or NULL. Returns 0 or -errno. */
	int (*begin)(struct loop *loop);
	/*
	 * False: no room. A started operation may wait for the turn, which submits all of
	 * them at once.
	 */
	bool (*start)(struct loop *loop, struct op *op);
	void (*cancel)(struct loop *loop, struct op *op);
	void (*cancel_all)(struct loop *loop);
	/*
	 * Begins what was started, waits, and completes (engine_complete) what has ended;
	 * runs no callback.
	 */
	void (*turn)(struct loop *loop, enum engine_wait wait);
	/*
	 * As loop_replace_file, on a loop that allows it; before make, there is nothing
	 * to do.
	 */
	int (*replace)(struct loop *loop, int file, int fd);
	/*
	 * Last on the loop's thread, when nothing is in flight, or NULL: makes the kernel
	 * release the files.
	 */
	void (*end)(struct loop *loop);
	/* Frees all or part of what make has made, or nothing. */
	void (*done)(struct loop *loop);
};

extern const struct engine_ops engine_ring, engine_sync;

struct loop {
	const struct engine_ops *engine;
	char name[LOOP_NAME_MAX];
	char thread_name[LOOP_NUM_THREADS][LOOP_NAME_MAX];
	enum loop_kind kind;
	int ring_fd, done_fd, epoll_fd; /* or -1: the engine has none */
	int file[LOOP_FILES_MAX];
	unsigned num_files;
	uint8_t access[LOOP_FILES_MAX];	      /* enum loop_access */
	uint8_t cold[LOOP_FILES_MAX];	      /* reads that go to the engine untried */
	uint64_t read_turn;		      /* the turn of the last read that was tried by a call */
	int in_memory[LOOP_MEMORY_FILES_MAX]; /* indexes of files that were LOOP_ACCESS_MEMORY, or _PROMPT, at the start */
	unsigned num_in_memory;
	struct watch *watches;
	uint64_t turns;
	unsigned inflight; /* operations that were started and whose done was not called */

	struct op_list completed;
	struct task_list tasks;
	struct timers timers;

	pthread_t thread;
	bool running;
	bool stop; /* set by the loop's thread, as is woken: calls may have come */
	bool woken;
	int start_result;				 /* of the thread that is starting; 0: not yet */
	int (*guard)(void *ctx, enum loop_thread which); /* or NULL */
	void *guard_ctx;
	struct watch wake;
	int wake_fd;

	pthread_mutex_t lock; /* protects calls and their results, and start_result */
	pthread_cond_t changed;
	struct call *calls;
	struct await *awaits; /* loop's thread */
};

/* The operation has ended with res; its done is called after the turn. */
static inline void engine_complete(struct loop *loop, struct op *op, int res)
{
	op->res = res;
	STAILQ_INSERT_TAIL(&loop->completed, op, next);
}

/* loop_new with any engine. */
int loop_new_on(struct loop **ret, const char *name, const struct engine_ops *engine, enum loop_kind kind,
		struct err *e);

/* The body of the loop's thread: this once, then turns. */
void loop_begin(struct loop *loop);
void loop_turn(struct loop *loop);

/* loop_op.c: starts an operation, of which all but kind and file is set. False: no room. */
bool loop_start_op(struct loop *loop, struct op *op, enum op_kind kind, int file);

/*
 * loop_call.c: runs the calls that have come in, and, at the end of a turn, those that
 * wait for something.
 */
void loop_run_calls(struct loop *loop);
void loop_run_awaits(struct loop *loop);

/*
 * Starts a thread of the loop, which first calls engine_thread_begin, and waits for that
 * call. Returns 0 or -errno with e set; on failure the thread has ended.
 */
int engine_thread_start(struct loop *loop, pthread_t *ret, void *(*run)(void *loop), struct err *e);

/*
 * On that thread: names it, and runs the guard unless r < 0, an error of its own start.
 * Returns 0, or -errno if the thread has to end.
 */
int engine_thread_begin(struct loop *loop, enum loop_thread which, int r);

#endif
