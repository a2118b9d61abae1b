/* Questions of a VM in its jail; see broker.h. */
#include "vmm/broker.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct question {
	uint32_t call; /* enum broker_call */
	uint32_t value;
};

union control {
	char space[CMSG_SPACE(sizeof(int))];
	struct cmsghdr align;
};

int broker_ask(int fd, enum broker_call call, uint32_t value)
{
	struct question q = { .call = call, .value = value };
	struct iovec out = { .iov_base = &q, .iov_len = sizeof(q) };
	const struct msghdr ask = { .msg_iov = &out, .msg_iovlen = 1 };
	int32_t answer = -EPROTO;
	int given = -1;
	union control control = { 0 };
	struct iovec iov = { .iov_base = &answer, .iov_len = sizeof(answer) };
	struct msghdr header = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof(control.space)
	};
	struct cmsghdr *c;

	if (sendmsg(fd, &ask, MSG_NOSIGNAL) != (ssize_t)sizeof(q))
		return -ECONNREFUSED;
	if (recvmsg(fd, &header, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof(answer))
		return -ECONNREFUSED;
	c = CMSG_FIRSTHDR(&header);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(&given, CMSG_DATA(c), sizeof(int));
	return given >= 0 ? given : answer;
}

int broker_serve(int fd, broker_answer *answer, void *ctx)
{
	struct question q = { 0 };
	int32_t result;
	union control control = { 0 };
	struct iovec iov = { .iov_base = &result, .iov_len = sizeof(result) };
	struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1 };
	int given;

	if (recv(fd, &q, sizeof(q), MSG_DONTWAIT) != (ssize_t)sizeof(q))
		return -ECONNRESET;
	result = answer(ctx, (enum broker_call)q.call, q.value);
	given = q.call == BROKER_CONNECT ? result : -1;
	if (given >= 0) {
		struct cmsghdr *c = &control.align;

		header.msg_control = control.space;
		header.msg_controllen = sizeof(control.space);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &given, sizeof(int));
	}
	/* Who does not take the answer has gone; the next question tells. */
	(void)sendmsg(fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (given >= 0)
		close(given);
	return 0;
}
