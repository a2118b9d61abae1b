/* The client's side of CONTROL_MSG_INFO; see control.h. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/guest/control.h"

/* Takes what came beside the answer. The kernel, not the sender, says which process has sent it. */
static void take_rest(struct msghdr *m, int *ret_fd, pid_t *ret_pid)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		struct ucred from;

		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int))) {
			memcpy(ret_fd, CMSG_DATA(c), sizeof(*ret_fd));
		} else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS) {
			memcpy(&from, CMSG_DATA(c), sizeof(from));
			*ret_pid = from.pid;
		}
	}
}

int control_info(int fd, char text[CONTROL_INFO_MAX], int *ret_fd, pid_t *ret_pid, struct err *e)
{
	static const struct timeval limit = { .tv_sec = 2 };
	static const int on = 1;
	struct init_msg msg = { .type = CONTROL_MSG_INFO };
	struct iovec iov[] = { { .iov_base = &msg, .iov_len = sizeof(msg) },
			       { .iov_base = text, .iov_len = CONTROL_INFO_MAX - 1 } };
	char room[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2, .msg_control = room, .msg_controllen = sizeof(room) };
	ssize_t n;

	*ret_fd = -1;
	*ret_pid = 0;
	if (setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
	    send(fd, &msg, sizeof(msg), MSG_NOSIGNAL) < 0)
		return err_sys(e, "ask the VM");
	n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
	if (n < 0)
		return errno == EAGAIN ? err_set(e, -ETIMEDOUT, "it does not answer") : err_sys(e, "ask the VM");
	take_rest(&m, ret_fd, ret_pid);
	if (n >= (ssize_t)sizeof(msg) && msg.type == CONTROL_MSG_INFO && msg.len == (size_t)n - sizeof(msg)) {
		text[msg.len] = '\0';
		return 0;
	}
	if (*ret_fd >= 0)
		close(mf_take_fd(ret_fd));
	return n == 0 ? err_set(e, -EPIPE, "the guest has ended") : err_set(e, -EPROTO, "what answers is not mayfly");
}
