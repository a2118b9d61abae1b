/* The io_uring of a loop: set-up and restrictions. */
#ifndef MF_CORE_RING_H
#define MF_CORE_RING_H

struct err;
struct io_uring;

enum loop_kind {
	LOOP_FIXED, /* reads, writes, fsync, fallocate, poll and cancel, on files that are fixed when the ring is made */
	/*
	 * The same, but a file can be exchanged for another that the process has open. It costs something: a seccomp
	 * filter of the loop's thread has to let io_uring_register(2) pass (IORING_REGISTER_FILES_UPDATE on the ring's
	 * fd). So: only where somebody may ask for it.
	 */
	LOOP_EXCHANGEABLE,
	LOOP_SOCKETS, /* poll and cancel, on file descriptors */
};

/*
 * Makes a disabled ring that, once its owner thread enables it, does what its kind says and nothing else; the files, by
 * their index, are not for LOOP_SOCKETS. Returns 0, or -errno with e set, naming the cause where io_uring is switched
 * off; then there is nothing to undo.
 */
int ring_make(struct io_uring *ring, const char *name, enum loop_kind kind, unsigned entries, const int *files,
	      unsigned num_files, struct err *e);

/*
 * What the negative errno of an operation means. It is strerror(3)'s, but for -ECANCELED of an operation that nobody has
 * cancelled: it can only be waited for, and the kernel may start no thread that does so.
 */
const char *loop_strerror(int res);

#endif
