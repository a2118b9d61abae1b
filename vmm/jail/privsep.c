/* Both ends of the jail's sockets; see privsep.h. */
#include "vmm/jail/privsep.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vmm/base/fdio.h"
#include "vmm/base/util.h"

struct question {
	uint32_t call; /* enum privsep_call */
	uint32_t value;
};

int privsep_ask(int fd, enum privsep_call call, uint32_t value)
{
	struct question q = { .call = call, .value = value };
	struct iovec out = { .iov_base = &q, .iov_len = sizeof(q) };
	int32_t answer;
	struct iovec in = { .iov_base = &answer, .iov_len = sizeof(answer) };
	int given = -1;
	unsigned num = 1;
	ssize_t n;

	if (fdio_send_packet(fd, &out, 1, NULL, 0, 0) < 0)
		return -ECONNREFUSED;
	n = fdio_receive_packet(fd, &in, 1, &given, &num);
	if (n == -EMFILE)
		return -EMFILE; /* connected, but no descriptor was free for it */
	if (n != (ssize_t)sizeof(answer)) {
		answer = -ECONNREFUSED;
	} else if (call != PRIVSEP_CONNECT || answer < 0) {
		if (num == 0)
			return answer;
		answer = -EPROTO;
	} else if (num == 1 && answer == 0) {
		return given;
	} else {
		answer = -EPROTO;
	}
	if (num)
		close(given);
	return answer;
}

int privsep_serve(int fd, privsep_answer *answer, void *ctx)
{
	struct question q = { 0 };
	int32_t result;
	struct iovec iov = { .iov_base = &result, .iov_len = sizeof(result) };
	MF_CLOSE int given = -1;
	int r;

	if (recv(fd, &q, sizeof(q), MSG_DONTWAIT) != (ssize_t)sizeof(q))
		return -ECONNRESET;
	result = answer(ctx, (enum privsep_call)q.call, q.value);
	if (q.call == PRIVSEP_CONNECT && result >= 0) {
		given = result;
		result = 0; /* the number is valid in this process only */
	}
	r = fdio_send_packet(fd, &iov, 1, &given, given >= 0, MSG_DONTWAIT);
	if (r < 0 && given >= 0) { /* ETOOMANYREFS: the descriptor cannot be sent, and the VM waits for an answer */
		result = r;
		r = fdio_send_packet(fd, &iov, 1, NULL, 0, MSG_DONTWAIT);
	}
	(void)r; /* if the VM has ended, the next recv fails */
	return 0;
}
