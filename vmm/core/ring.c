/*
 * The ring of a loop, made disabled and restricted; see ring.h.
 *
 * seccomp does not see ring operations, so this file fixes what a thread may do through
 * its ring: the operations of its kind, in ops below. None of them opens, connects or
 * maps. LOOP_FIXED works on registered files only (IOSQE_FIXED_FILE is required).
 * LOOP_SOCKETS cannot, because its files come and go. It only polls, and moves data by
 * system calls, which seccomp does see. A ring with these restrictions refuses
 * io_uring_register(2), except to give up all registered files, and to exchange those of
 * LOOP_EXCHANGEABLE.
 *
 * With DEFER_TASKRUN (Linux 6.1), completions arrive only when the loop asks for them.
 * Without it (-EINVAL) the ring works the same, with more interruptions.
 */
#include "vmm/core/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"

#define RING_UNBOUND_WORKERS_MAX 8 /* kernel threads for files that can only block, such as a terminal */
/*
 * Kernel threads for regular files. The kernel starts one when all others are blocked; its own limit is 4 for each CPU,
 * which the reads of one drive that stalls would use up.
 */
#define RING_DISK_WORKERS_MAX 64
#define RING_SETTING_MAX 16 /* bytes */

/* The first word of a file in /proc/sys/kernel, or "" if it is unreadable. */
static void read_setting(const char *path, char text[RING_SETTING_MAX])
{
	MF_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? 0 : read(fd, text, RING_SETTING_MAX - 1);

	text[MF_MAX(len, 0)] = '\0';
	text[strcspn(text, " \n")] = '\0';
}

/* Says why io_uring_setup(2) failed and how to allow it. */
static int explain_setup(const char *name, int code, struct err *e)
{
	char disabled[RING_SETTING_MAX], group[RING_SETTING_MAX];

	read_setting("/proc/sys/kernel/io_uring_disabled", disabled);
	read_setting("/proc/sys/kernel/io_uring_group", group);
	if (code == -EPERM && !strcmp(disabled, "1"))
		return err_set(
			e, code,
			"make the %s ring: kernel.io_uring_disabled = 1, so io_uring is for CAP_SYS_ADMIN and the "
			"group of kernel.io_uring_group (%s): join that group, or 'sysctl kernel.io_uring_disabled=0'",
			name, strcmp(group, "-1") != 0 ? group : "none is set");
	if (code == -EPERM && *disabled && strcmp(disabled, "0") != 0)
		return err_set(e, code,
			       "make the %s ring: kernel.io_uring_disabled = %s, so io_uring is switched off: 'sysctl "
			       "kernel.io_uring_disabled=0'",
			       name, disabled);
	if (code == -EPERM || code == -ENOSYS)
		return err_set(e, code,
			       "make the %s ring: io_uring is not allowed here (%s; by a container's seccomp profile?): "
			       "allow io_uring_setup, io_uring_enter and io_uring_register",
			       name, strerrorname_np(-code));
	if (code == -ENOMEM)
		return err_set(e, code, "make the %s ring: too little locked memory is allowed: raise ulimit -l", name);
	return err_neg(e, code, "make the %s ring: io_uring_setup", name);
}

static int ring_setup(struct io_uring *ring, const char *name, unsigned entries, struct err *e)
{
	static const unsigned flags[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		0,
	};
	/* RSRC_TAGS: the closest sign of Linux 5.13, which has polls of many shots. */
	const unsigned needed = IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_EXT_ARG |
				IORING_FEAT_RSRC_TAGS;
	struct io_uring_params params;
	int r = -EINVAL;

	for (size_t i = 0; i < MF_ARRAY_SIZE(flags) && r == -EINVAL; i++) {
		params = (struct io_uring_params){ .flags = IORING_SETUP_R_DISABLED | flags[i] };
		r = io_uring_queue_init_params(entries, ring, &params);
	}
	if (r < 0)
		return explain_setup(name, r, e);
	if ((params.features & needed) != needed) {
		io_uring_queue_exit(ring);
		return err_set(e, -ENOSYS, "make the %s ring: this kernel's io_uring is too old (Linux 5.13 or newer)",
			       name);
	}
	return 0;
}

static int ring_restrict(struct io_uring *ring, const char *name, enum loop_kind kind, struct err *e)
{
	/* The first two are those of LOOP_SOCKETS. */
	static const uint8_t ops[] = {
		IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL, IORING_OP_READ,  IORING_OP_READV,
		IORING_OP_WRITEV,   IORING_OP_WRITE,	    IORING_OP_FSYNC, IORING_OP_FALLOCATE
	};
	struct io_uring_restriction res[MF_ARRAY_SIZE(ops) + 4] = { 0 };
	size_t n = 0, num_ops = kind == LOOP_SOCKETS ? 2 : MF_ARRAY_SIZE(ops);
	unsigned workers[2] = { RING_DISK_WORKERS_MAX, RING_UNBOUND_WORKERS_MAX };
	int r;

	for (; n < num_ops; n++) {
		res[n].opcode = IORING_RESTRICTION_SQE_OP;
		res[n].sqe_op = ops[n];
	}
	/* Without these two, no flag is allowed. */
	if (kind != LOOP_SOCKETS) {
		res[n].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
		res[n++].sqe_flags = IOSQE_FIXED_FILE | IOSQE_ASYNC;
		res[n].opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED;
		res[n++].sqe_flags = IOSQE_FIXED_FILE;
		res[n].opcode = IORING_RESTRICTION_REGISTER_OP;
		res[n++].register_op = IORING_UNREGISTER_FILES;
	}
	if (kind == LOOP_EXCHANGEABLE) {
		res[n].opcode = IORING_RESTRICTION_REGISTER_OP;
		res[n++].register_op = IORING_REGISTER_FILES_UPDATE;
	}
	/* Only limits kernel threads, and exists since Linux 5.15. */
	(void)io_uring_register_iowq_max_workers(ring, workers);
	r = io_uring_register_restrictions(ring, res, (unsigned)n);
	if (r < 0)
		return err_neg(e, r, "restrict the %s ring", name);
	return 0;
}

int ring_make(struct io_uring *ring, const char *name, enum loop_kind kind, unsigned entries, struct err *e)
{
	int r = ring_setup(ring, name, entries, e);

	if (r < 0)
		return r;
	r = ring_restrict(ring, name, kind, e);
	if (r < 0)
		io_uring_queue_exit(ring);
	return r;
}

int ring_set_files(struct io_uring *ring, const char *name, const int *files, unsigned num, struct err *e)
{
	int r = io_uring_register_files(ring, files, num);

	return r < 0 ? err_neg(e, r, "register the files of the %s ring", name) : 0;
}

enum loop_engine ring_engine_here(void)
{
	struct io_uring ring;
	struct err e;

	if (ring_make(&ring, "io", LOOP_SOCKETS, LOOP_ENTRIES, &e) < 0)
		return LOOP_ENGINE_SYNC;
	io_uring_queue_exit(&ring);
	return LOOP_ENGINE_RING;
}
