/* Claims and answers as packets: what arrives is what was sent, or it is refused. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/pool/claim.h"

static int pair[2];

static int open_pair(void **state)
{
	(void)state;
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
}

static int close_pair(void **state)
{
	(void)state;
	close(pair[0]);
	close(pair[1]);
	return 0;
}

static void add(struct pool_claim *c, enum pool_part part, const char *word)
{
	struct err e;

	assert_int_equal(pool_claim_add(c, part, word, &e), 0);
}

static void test_round_trip(void **state)
{
	struct pool_claim sent, got;
	char *own[] = { (char *)(uintptr_t) "--jail", (char *)(uintptr_t) "--net=user" };
	struct err e;

	(void)state;
	assert_int_equal(pool_claim_init(&sent), 0);
	assert_int_equal(pool_claim_init(&got), 0);
	add(&sent, POOL_SHARED, "--net=user");
	add(&sent, POOL_OPTIONS, "--name=x");
	add(&sent, POOL_OPTIONS, "--env=A=");
	add(&sent, POOL_DRIVES, "d=/a b");
	add(&sent, POOL_NETS, "tap=t0");
	add(&sent, POOL_VSOCK, "/v");
	add(&sent, POOL_COMMAND, "echo");
	add(&sent, POOL_COMMAND, "");
	for (int i = 0; i < POOL_STREAMS + 3; i++)
		sent.fd[sent.num_fds++] = dup(0);
	assert_int_equal(pool_claim_send(pair[0], &sent, &e), 0);
	assert_int_equal(pool_claim_receive(pair[1], &got, 0, &e), 1);
	assert_int_equal(got.num_fds, POOL_STREAMS + 3);
	assert_int_equal(pool_claim_files(&got), 3);
	assert_string_equal(pool_claim_part(&got, POOL_VSOCK)[0], "/v");
	assert_true(fcntl(got.fd[0], F_GETFD) & FD_CLOEXEC);
	assert_memory_equal(got.num, sent.num, sizeof(got.num));
	assert_string_equal(pool_claim_part(&got, POOL_OPTIONS)[1], "--env=A=");
	assert_string_equal(pool_claim_part(&got, POOL_DRIVES)[0], "d=/a b");
	assert_string_equal(pool_claim_part(&got, POOL_COMMAND)[1], "");
	assert_null(pool_claim_differs(&got, POOL_SHARED, own, 2));
	assert_string_equal(pool_claim_differs(&got, POOL_SHARED, own, 1), "--net=user");
	pool_claim_done(&sent);
	pool_claim_done(&got);
	close(pair[0]);
	assert_int_equal(pool_claim_init(&got), 0);
	assert_int_equal(pool_claim_receive(pair[1], &got, 0, &e), 0);
	pool_claim_done(&got);
}

static void test_limits(void **state)
{
	struct pool_claim c, got;
	struct err e;
	char *large = malloc(POOL_TEXT_MAX + 1);

	(void)state;
	memset(large, 'x', POOL_TEXT_MAX);
	large[POOL_TEXT_MAX] = '\0';
	assert_int_equal(pool_claim_init(&c), 0);
	assert_int_equal(pool_claim_add(&c, POOL_COMMAND, large, &e), -E2BIG);
	large[POOL_TEXT_MAX - 1] = '\0';
	add(&c, POOL_COMMAND, large);
	assert_int_equal(pool_claim_add(&c, POOL_COMMAND, "", &e), -E2BIG);
	/* The largest fits into a packet. */
	assert_int_equal(pool_claim_send(pair[0], &c, &e), 0);
	assert_int_equal(pool_claim_init(&got), 0);
	assert_int_equal(pool_claim_receive(pair[1], &got, 0, &e), 1);
	assert_string_equal(got.word[0], large);
	pool_claim_done(&got);
	pool_claim_done(&c);
	assert_int_equal(pool_claim_init(&c), 0);
	for (unsigned i = 0; i < POOL_WORDS_MAX; i++)
		add(&c, POOL_COMMAND, "");
	assert_int_equal(pool_claim_add(&c, POOL_COMMAND, "", &e), -E2BIG);
	pool_claim_done(&c);
	free(large);
}

/* Sends bytes as they are. Returns what the receiver makes of them. */
static int receive(const void *data, size_t len)
{
	struct pool_claim c;
	struct err e = { 0 };
	int r;

	assert_int_equal(pool_claim_init(&c), 0);
	assert_int_equal(send(pair[0], data, len, 0), (ssize_t)len);
	r = pool_claim_receive(pair[1], &c, 0, &e);
	assert_int_equal(c.num_fds, 0);
	if (r < 0)
		assert_true(e.text[0]);
	pool_claim_done(&c);
	return r;
}

static void test_what_is_no_claim(void **state)
{
	struct {
		uint32_t magic, extras, num[POOL_NUM_PARTS];
		char text[16];
	} m = { .magic = 0x316d6c63, .num = { [POOL_COMMAND] = 2 }, .text = "a\0b" };
	const size_t head = offsetof(typeof(m), text);

	(void)state;
	assert_int_equal(receive(&m, head + 4), 1);
	assert_int_equal(receive(&m, head + 3), -EPROTO); /* the last is not terminated */
	assert_int_equal(receive(&m, head + 2), -EPROTO); /* one is missing */
	assert_int_equal(receive(&m, head + 5), -EPROTO); /* one too many */
	assert_int_equal(receive(&m, head - 1), -EPROTO);
	assert_int_equal(receive("x", 1), -EPROTO);
	m.extras = POOL_LOG; /* only the process outside of a jail sends these */
	assert_int_equal(receive(&m, head + 4), -EPROTO);
	m.extras = 0;
	m.num[POOL_FROM] = 2;
	m.num[POOL_COMMAND] = 0;
	assert_int_equal(receive(&m, head + 4), -EPROTO);
	m.num[POOL_FROM] = 0;
	m.num[POOL_VSOCK] = 2;
	assert_int_equal(receive(&m, head + 4), -EPROTO);
	m.num[POOL_VSOCK] = 0;
	m.num[POOL_FROM] = UINT32_MAX;
	m.num[POOL_COMMAND] = 3; /* their sum would be 2 */
	assert_int_equal(receive(&m, head + 4), -EPROTO);
	m.magic++;
	assert_int_equal(receive(&m, head + 4), -EPROTO);
}

/* The pool looks at a claim and leaves it to the member. */
static void test_peek(void **state)
{
	struct pool_claim c, got;
	bool cold = true;
	int ends[2];
	struct err e;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	assert_int_equal(pool_claim_peek(ends[1], &cold), -EAGAIN);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(pool_claim_init(&c), 0);
		assert_int_equal(pool_claim_init(&got), 0);
		c.extras = i ? POOL_COLD : 0;
		assert_int_equal(pool_claim_send(ends[0], &c, &e), 0);
		assert_int_equal(pool_claim_peek(ends[1], &cold), 1);
		assert_int_equal(cold, i);
		assert_int_equal(pool_claim_receive(ends[1], &got, POOL_COLD, &e), 1);
		pool_claim_done(&c);
		pool_claim_done(&got);
	}
	assert_int_equal(send(ends[0], "x", 1, 0), 1);
	assert_int_equal(pool_claim_peek(ends[1], &cold), 1); /* the member refuses it */
	assert_int_equal(recv(ends[1], &cold, 1, 0), 1);
	close(ends[0]);
	assert_int_equal(pool_claim_peek(ends[1], &cold), 0);
	close(ends[1]);
}

static void test_answers(void **state)
{
	char text[1024];
	struct pool_answer a;

	(void)state;
	pool_answer_send(pair[0], POOL_ENDED, -15, NULL);
	assert_int_equal(pool_answer_receive(pair[1], &a), 1);
	assert_int_equal(a.type, POOL_ENDED);
	assert_int_equal(a.value, -15);
	assert_string_equal(a.text, "");
	memset(text, 'y', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	pool_answer_send(pair[0], POOL_REFUSED, 0, text);
	assert_int_equal(pool_answer_receive(pair[1], &a), 1);
	assert_int_equal(strlen(a.text), sizeof(a.text) - 1);
	assert_int_equal(send(pair[0], "1234567", 7, 0), 7);
	assert_int_equal(pool_answer_receive(pair[1], &a), -EPROTO);
	assert_int_equal(send(pair[0], "12345678", 8, 0), 8);
	assert_int_equal(pool_answer_receive(pair[1], &a), -EPROTO);
	/* An answer of one that has hung up without reading what was sent to it. */
	assert_int_equal(send(pair[1], "claim", 5, 0), 5);
	pool_answer_send(pair[0], POOL_EMPTY, 0, NULL);
	close(pair[0]);
	assert_int_equal(pool_answer_receive(pair[1], &a), 1);
	assert_int_equal(a.type, POOL_EMPTY);
	assert_int_equal(pool_answer_receive(pair[1], &a), 0);
}

static void test_identity(void **state)
{
	char dir[] = "/tmp/claim-XXXXXX", path[64], other[64], a[POOL_IDENTITY_MAX], b[POOL_IDENTITY_MAX];

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_int_equal(pool_identity(a, dir), -ENOENT);
	snprintf(path, sizeof(path), "%s/state", dir);
	snprintf(other, sizeof(other), "%s/other", dir);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	close(open(other, O_CREAT | O_WRONLY, 0600));
	assert_int_equal(pool_identity(a, dir), 0);
	assert_int_equal(pool_identity(b, dir), 0);
	assert_string_equal(a, b);
	assert_int_equal(rename(other, path), 0);
	assert_int_equal(pool_identity(b, dir), 0);
	assert_string_not_equal(a, b);
	unlink(path);
	rmdir(dir);
}

static void test_whose(void **state)
{
	(void)state;
	assert_int_equal(pool_whose_option("env"), POOL_OF_CLAIM);
	assert_int_equal(pool_whose_option("jail"), POOL_OF_POOL);
	assert_int_equal(pool_whose_option("--net=user,tcp=1"), POOL_OF_POOL);
	assert_int_equal(pool_whose_option("--net=tap=t"), POOL_WITH_FILE);
	assert_int_equal(pool_whose_option("--net=fd=7"), POOL_WITH_FILE);
	assert_int_equal(pool_whose_option("--net=none"), POOL_OF_NOBODY);
	assert_int_equal(pool_whose_option("--vsock=/v"), POOL_WITH_FILE);
	assert_int_equal(pool_whose_option("result"), POOL_OF_NOBODY);
	assert_int_equal(pool_whose_option("control"), POOL_OF_NOBODY); /* a path that the pool's user would make */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_round_trip, open_pair, close_pair),
		cmocka_unit_test_setup_teardown(test_limits, open_pair, close_pair),
		cmocka_unit_test_setup_teardown(test_what_is_no_claim, open_pair, close_pair),
		cmocka_unit_test(test_peek),
		cmocka_unit_test_setup_teardown(test_answers, open_pair, close_pair),
		cmocka_unit_test(test_identity),
		cmocka_unit_test(test_whose),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
