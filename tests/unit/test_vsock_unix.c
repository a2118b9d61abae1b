/* vsock: its host side. Names in the file system, the CONNECT line, clients that misbehave, and listeners that are not there. */
#include "tests/unit/vsock_fixture.h"

#include <sys/resource.h>

/* V1, CVE row "CONNECT" */
static void test_parse_line(void **state)
{
	static const struct {
		const char *line;
		int64_t port; /* -1: refused */
	} rows[] = {
		{ "CONNECT 0", 0 },
		{ "CONNECT 52", 52 },
		{ "connect 52", 52 },
		{ "Connect\t52", 52 },
		{ "CONNECT   52  ", 52 },
		{ "CONNECT 52\r", 52 },
		{ "CONNECT 0052", 52 },
		{ "CONNECT 4294967295", 4294967295 },
		{ "CONNECT 4294967296", -1 },
		{ "CONNECT 99999999999999999999", -1 },
		{ "CONNECT 18446744073709551668", -1 },
		{ "CONNECT -1", -1 },
		{ "CONNECT +1", -1 },
		{ "CONNECT 0x10", -1 },
		{ "CONNECT 5 2", -1 },
		{ "CONNECT 52 x", -1 },
		{ "CONNECT", -1 },
		{ "CONNECT ", -1 },
		{ "CONNECT\r", -1 },
		{ "CONNECT52", -1 },
		{ " CONNECT 52", -1 },
		{ "CONN", -1 },
		{ "DISCONNECT 52", -1 },
		{ "", -1 },
	};

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(rows); i++) {
		uint32_t port = 12345;
		int r = vsock_unix_parse_line(rows[i].line, strlen(rows[i].line), &port);

		assert_int_equal(r, rows[i].port < 0 ? -EINVAL : 0);
		assert_int_equal(port, rows[i].port < 0 ? 12345 : (uint32_t)rows[i].port);
	}
	assert_int_equal(vsock_unix_parse_line("CONNECT 5\0002", 11, &(uint32_t){ 0 }), -EINVAL);
}

static void test_client_connects(void **state)
{
	struct fix *f = *state;
	int fd;

	post(f, 16);
	fd = host_connects(f, "");
	assert_true(f->base.dst_port >= 1U << 30);
	assert_int_equal(write(fd, "hello", 5), 5);
	turn();
	assert_int_equal(expect(f, OP(RW)).len, 5);
	send_data(f, OP(RW), "world", 5);
	expect_text(fd, "world");
	close(fd);
}

static void test_data_behind_the_line_is_kept(void **state)
{
	struct fix *f = *state;
	const uint8_t *data;
	struct virtio_vsock_hdr h;
	int fd;

	post(f, 16);
	fd = host_connects(f, "GET / HTTP/1.0\n\nCONNECT 5\n");
	assert_true(next_packet(f, &h, &data));
	assert_int_equal(h.op, OP(RW));
	assert_memory_equal(data, "GET / HTTP/1.0\n\nCONNECT 5\n", h.len);
	assert_int_equal(h.len, 26);
	close(fd);
}

static void test_line_in_pieces(void **state)
{
	static const char line[] = "CONNECT 1000\n";
	struct fix *f = *state;
	int fd;

	post(f, 16);
	fd = host_connect(f, "");
	for (size_t i = 0; i < sizeof(line) - 1; i++) {
		assert_true(silent(f));
		assert_int_equal(write(fd, line + i, 1), 1);
		turn();
	}
	f->base.dst_port = vsock_of(f)->last_port;
	expect(f, OP(REQUEST));
	close(fd);
}

/* V1: no end of line, a line that is too long, and nonsense. */
static void test_bad_lines_are_closed(void **state)
{
	static const char *const lines[] = {
		"CONNECT 4294967296\n",
		"CONNECT -1\n",
		"\n",
		"GET / HTTP/1.1\r\n",
		"CONNECT                           1\n",
	};
	struct fix *f = *state;
	char *much = calloc(1, 10241);
	int fd;

	post(f, 16);
	for (size_t i = 0; i < MF_ARRAY_SIZE(lines); i++) {
		fd = host_connect(f, lines[i]);
		assert_true(is_closed(fd));
		close(fd);
	}
	memset(much, 'x', 10240);
	fd = host_connect(f, much);
	assert_true(is_closed(fd));
	close(fd);
	free(much);
	assert_true(silent(f));
	assert_int_equal(vsock_of(f)->num_conns, 0);
}

static void test_nobody_listens_in_the_guest(void **state)
{
	struct fix *f = *state;
	int fd;

	post(f, 16);
	fd = host_connect(f, "CONNECT 1000\n");
	f->base.dst_port = vsock_of(f)->last_port;
	expect(f, OP(REQUEST));
	send_op(f, OP(RST));
	assert_true(is_closed(fd)); /* and not a word before */
	assert_int_equal(vsock_of(f)->waiting, 0);
	close(fd);
}

static void test_client_goes_before_the_answer(void **state)
{
	struct fix *f = *state;
	int fd;

	post(f, 16);
	fd = host_connect(f, "CONNECT 1000\n");
	f->base.dst_port = vsock_of(f)->last_port;
	expect(f, OP(REQUEST));
	close(fd);
	send_op(f, OP(RESPONSE));
	expect(f, OP(RST));
	assert_int_equal(vsock_of(f)->num_conns, 0);
}

static void test_data_before_the_response_resets(void **state)
{
	struct fix *f = *state;
	int fd;

	post(f, 16);
	fd = host_connect(f, "CONNECT 1000\n");
	f->base.dst_port = vsock_of(f)->last_port;
	expect(f, OP(REQUEST));
	send_data(f, OP(RW), "x", 1);
	expect(f, OP(RST));
	assert_true(is_closed(fd));
	close(fd);
}

/* A guest that answers before it was asked has guessed the port. */
static void test_response_before_the_request_resets(void **state)
{
	struct fix *f = *state;
	int fd = host_connect(f, "CONNECT 1000\n");

	f->base.dst_port = vsock_of(f)->last_port;
	send_op(f, OP(RESPONSE));
	post(f, 16);
	expect(f, OP(RST));
	assert_true(is_closed(fd));
	close(fd);
}

static bool timer_runs(struct fix *f)
{
	return vsock_of(f)->timer.set;
}

static void tick(unsigned n)
{
	while (n--)
		mock_time(mock.loop->timers.now_ns + VSOCK_TICK_MS * 1000000ULL);
	turn();
}

/* V2 */
static void test_client_that_says_nothing(void **state)
{
	struct fix *f = *state;
	int fd, other;

	post(f, 16);
	assert_false(timer_runs(f));
	other = host_connects(f, "");
	assert_false(timer_runs(f));
	fd = host_connect(f, "CONN");
	assert_true(timer_runs(f));
	tick(VSOCK_WAIT_MS / VSOCK_TICK_MS);
	assert_true(is_open(fd));
	tick(1);
	assert_true(is_closed(fd));
	assert_false(timer_runs(f));
	tick(100);
	assert_true(is_open(other));
	assert_int_equal(vsock_of(f)->num_conns, 1);
	close(fd);
	close(other);
}

static void test_guest_that_does_not_answer(void **state)
{
	struct fix *f = *state;
	int fd;

	post(f, 16);
	fd = host_connect(f, "CONNECT 1000\n");
	f->base.dst_port = vsock_of(f)->last_port;
	expect(f, OP(REQUEST));
	tick(VSOCK_WAIT_MS / VSOCK_TICK_MS);
	assert_true(is_open(fd));
	tick(1);
	assert_true(is_closed(fd));
	expect(f, OP(RST));
	assert_false(timer_runs(f));
	close(fd);
}

/* V3: connect(2) says EAGAIN. */
static void test_full_backlog_is_refused(void **state)
{
	struct fix *f = *state;
	int listener = host_listen(f, "_52", 0);

	post(f, 16);
	send_op(f, OP(REQUEST));
	expect(f, OP(RESPONSE));
	f->base.src_port++;
	send_op(f, OP(REQUEST));
	expect(f, OP(RST));
	close(listener);
}

/* V4 */
static void test_listeners_that_are_none(void **state)
{
	struct fix *f = *state;
	struct sockaddr_un a = address(f, "_52"), b = address(f, "_53");
	int listener = host_listen(f, "_53", 8);

	post(f, 16);
	send_op(f, OP(REQUEST)); /* missing */
	expect(f, OP(RST));
	assert_int_equal(mkdir(a.sun_path, 0700), 0);
	send_op(f, OP(REQUEST));
	expect(f, OP(RST));
	assert_int_equal(rmdir(a.sun_path), 0);
	assert_int_equal(symlink(b.sun_path, a.sun_path), 0);
	send_op(f, OP(REQUEST));
	expect(f, OP(RST));
	assert_int_equal(unlink(a.sun_path), 0);
	assert_int_equal(mkfifo(a.sun_path, 0600), 0);
	send_op(f, OP(REQUEST));
	expect(f, OP(RST));
	assert_int_equal(unlink(a.sun_path), 0);
	close(host_listen(f, "_52", 8)); /* nobody listens any more */
	send_op(f, OP(REQUEST));
	expect(f, OP(RST));
	assert_int_equal(vsock_of(f)->num_conns, 0);
	close(listener);
}

/* V6 */
static void test_storm_of_clients(void **state)
{
	static int fd[1100];
	struct fix *f = *state;
	struct rlimit limit = { 4096, 4096 };
	unsigned max = vsock_of(f)->max_conns, closed = 0;
	int first;

	assert_int_equal(max, VSOCK_CONNS_MAX);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	post(f, 16);
	first = host_connects(f, "");
	for (size_t i = 0; i < MF_ARRAY_SIZE(fd); i++)
		fd[i] = host_connect(f, "");
	for (size_t i = 0; i < MF_ARRAY_SIZE(fd); i++)
		closed += is_closed(fd[i]);
	assert_int_equal(closed, MF_ARRAY_SIZE(fd) - (max - 1));
	assert_int_equal(write(first, "alive", 5), 5);
	turn();
	assert_int_equal(expect(f, OP(RW)).len, 5);
	for (size_t i = 0; i < MF_ARRAY_SIZE(fd); i++)
		close(fd[i]);
	turn();
	assert_int_equal(vsock_of(f)->num_conns, 1);
	close(first);
}

/* No descriptor is left for a client: it waits for a tick, and nobody spins. */
static void test_no_descriptor_left(void **state)
{
	struct fix *f = *state;
	struct sockaddr_un a = address(f, "");
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), spare = dup(fd);
	struct rlimit limit = { (rlim_t)spare, 0 };

	post(f, 16);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	close(spare);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ (rlim_t)spare, limit.rlim_max }), 0);
	turn();
	assert_true(vsock_of(f)->accept_paused);
	assert_true(timer_runs(f));
	tick(1);
	assert_true(vsock_of(f)->accept_paused);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	tick(1);
	assert_false(vsock_of(f)->accept_paused);
	assert_int_equal(vsock_of(f)->num_conns, 1);
	close(fd);
	turn();
	assert_false(timer_runs(f));
}

/* Until the driver is there, clients wait in the backlog. */
static void test_client_before_the_driver(void **state)
{
	struct fix *f = *state;
	int fd = host_connect(f, "CONNECT 1000\n");

	assert_true(is_open(fd));
	activate(f);
	turn();
	post(f, 16);
	f->base.dst_port = vsock_of(f)->last_port;
	expect(f, OP(REQUEST));
	close(fd);
}

static int try_new(struct fix *f, const char *path, struct err *e)
{
	struct vsock_params params = { .path = path, .cid = CID };
	struct virtio_dev *dev;
	int r = vsock_new(&dev, &params, mock.loop, &f->d.mem, e);

	if (r == 0)
		dev->ops->free(dev);
	return r;
}

static void test_live_socket_is_refused(void **state)
{
	struct fix *f = *state;
	struct err e;

	assert_int_equal(try_new(f, f->path, &e), -EADDRINUSE);
	assert_non_null(strstr(e.text, f->path));
	assert_non_null(strstr(e.text, "another process listens there"));
	assert_int_equal(access(f->path, F_OK), 0);
}

static void test_stale_socket_is_replaced(void **state)
{
	struct fix *f = *state;
	struct sockaddr_un a = address(f, "_1");
	struct err e;

	close(host_listen(f, "_1", 1));
	assert_int_equal(access(a.sun_path, F_OK), 0);
	assert_int_equal(try_new(f, a.sun_path, &e), 0);
	assert_int_equal(access(a.sun_path, F_OK), -1); /* and it is removed at the end */
}

static void test_other_files_are_refused(void **state)
{
	struct fix *f = *state;
	struct sockaddr_un a = address(f, "_1"), b = address(f, "/no/such");
	struct err e;

	close(open(a.sun_path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	assert_int_equal(try_new(f, a.sun_path, &e), -EEXIST);
	assert_non_null(strstr(e.text, "not a socket"));
	assert_int_equal(access(a.sun_path, F_OK), 0);
	assert_int_equal(unlink(a.sun_path), 0);
	assert_int_equal(symlink("/nowhere", a.sun_path), 0);
	assert_int_equal(try_new(f, a.sun_path, &e), -EEXIST);
	assert_int_equal(try_new(f, b.sun_path, &e), -ENOTDIR);
}

static void test_length_of_the_path(void **state)
{
	struct fix *f = *state;
	char path[128];
	struct err e;
	size_t len = strlen(f->dir);

	memset(path, 'p', sizeof(path));
	memcpy(path, f->dir, len);
	path[len] = '/';
	path[VSOCK_PATH_MAX] = '\0';
	assert_int_equal(try_new(f, path, &e), 0);
	path[VSOCK_PATH_MAX] = 'p';
	path[VSOCK_PATH_MAX + 1] = '\0';
	assert_int_equal(try_new(f, path, &e), -ENAMETOOLONG);
	assert_int_equal(try_new(f, "", &e), -ENAMETOOLONG);
}

/* Somebody has replaced our socket: theirs stays. */
static void test_socket_of_others_is_not_removed(void **state)
{
	struct fix *f = *state;
	int listener;

	assert_int_equal(unlink(f->path), 0);
	listener = host_listen(f, "", 1);
	unix_socket_remove(&vsock_of(f)->name);
	assert_int_equal(access(f->path, F_OK), 0);
	assert_int_equal(unlink(f->path), 0);
	close(listener);
}

/* What the guest has sent last still arrives when the VM ends. */
static void test_finish_takes_what_is_left(void **state)
{
	struct fix *f = *state;
	int listener = host_listen(f, "_52", 8), fd;

	post(f, 8);
	fd = guest_connects(f, listener);
	f->base.op = OP(RW);
	f->base.len = 4;
	memcpy(drv_at(&f->d, HDR, HDR_SIZE), &f->base, HDR_SIZE);
	memcpy(drv_at(&f->d, HDR + HDR_SIZE, 4), "last", 4);
	drv_desc(&f->d, 0, HDR, HDR_SIZE + 4, 0, 0);
	drv_publish(&f->d, 0); /* no kick */
	vsock_finish(f->dev, 1000);
	expect_text(fd, "last");
	close(fd);
	close(listener);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_line),
		T(test_client_connects),
		T(test_data_behind_the_line_is_kept),
		T(test_line_in_pieces),
		T(test_bad_lines_are_closed),
		T(test_nobody_listens_in_the_guest),
		T(test_client_goes_before_the_answer),
		T(test_data_before_the_response_resets),
		T(test_response_before_the_request_resets),
		T(test_client_that_says_nothing),
		T(test_guest_that_does_not_answer),
		T(test_full_backlog_is_refused),
		T(test_listeners_that_are_none),
		T(test_storm_of_clients),
		T(test_no_descriptor_left),
		T_INACTIVE(test_client_before_the_driver),
		T(test_live_socket_is_refused),
		T(test_stale_socket_is_replaced),
		T(test_other_files_are_refused),
		T(test_length_of_the_path),
		T(test_socket_of_others_is_not_removed),
		T(test_finish_takes_what_is_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
