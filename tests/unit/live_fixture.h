/*
 * What the tests of live directories share: a guest that speaks 9P2000.L as it likes, against the server in its
 * sandbox, for the directory dir. Include it once, in the test.
 */
#ifndef MF_TESTS_UNIT_LIVE_FIXTURE_H
#define MF_TESTS_UNIT_LIVE_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/helper/live.h"
#include "vmm/helper/subids.h"

#define LIMIT_MS 10000
#define NOFID UINT32_MAX
#define MSIZE 65536

/* Messages of 9P2000.L. Each answer has the type of its request and 1. */
enum {
	RLERROR = 7,
	TLOPEN = 12,
	TLCREATE = 14,
	TSYMLINK = 16,
	TMKNOD = 18,
	TREADLINK = 22,
	TGETATTR = 24,
	TREADDIR = 40,
	TMKDIR = 72,
	TVERSION = 100,
	TATTACH = 104,
	TWALK = 110,
	TREAD = 116,
	TWRITE = 118,
	TCLUNK = 120
};

static char base[] = "/tmp/test-live.XXXXXX", dir[PATH_MAX], secret[PATH_MAX];
static struct live live;
static uint8_t message[MSIZE];
static size_t len;

static inline void put(uint64_t value, size_t bytes)
{
	memcpy(message + len, &value, bytes); /* little-endian, as this host is */
	len += bytes;
}

static inline void put_text(const char *text)
{
	put(strlen(text), 2);
	memcpy(message + len, text, strlen(text));
	len += strlen(text);
}

static inline void begin(uint8_t type)
{
	len = 4;
	put(type, 1);
	put(type == TVERSION ? UINT16_MAX : 1, 2);
}

static inline void receive(uint8_t *to, size_t bytes)
{
	struct pollfd poll_fd = { .fd = live.socket, .events = POLLIN };

	while (bytes) {
		ssize_t n;

		assert_int_equal(poll(&poll_fd, 1, LIMIT_MS), 1);
		n = read(live.socket, to, bytes);
		assert_true(n > 0);
		to += n;
		bytes -= (size_t)n;
	}
}

/* Sends the message. Returns 0, and the answer's body is in message; or the errno that was the answer. */
static inline int ask(void)
{
	uint8_t type = message[4];
	uint32_t size = (uint32_t)len, error;

	memcpy(message, &size, sizeof(size));
	assert_int_equal(write(live.socket, message, len), len);
	receive(message, 7);
	memcpy(&size, message, sizeof(size));
	assert_in_range(size, 7, MSIZE);
	len = size - 7;
	size = message[4];
	receive(message, len);
	if (size == RLERROR) {
		memcpy(&error, message, sizeof(error));
		return (int)error;
	}
	assert_int_equal(size, type + 1);
	return 0;
}

static inline void start(bool read_only)
{
	static struct config_live config;
	struct err e;

	config = (struct config_live){ .host = dir, .guest = dir, .read_only = read_only };
	assert_int_equal(live_start(&live, &config, &e), 0);
	if (live_await(&live, &e) < 0)
		fail_msg("%s", e.text);
}

/* As the guest's user uid; fid 0 is the directory. */
static inline void attach(uint32_t uid)
{
	begin(TVERSION);
	put(MSIZE, 4);
	put_text("9P2000.L");
	assert_int_equal(ask(), 0);
	begin(TATTACH);
	put(0, 4);
	put(NOFID, 4);
	put_text("");
	put_text("/export");
	put(uid, 4);
	assert_int_equal(ask(), 0);
}

/* Walks name by name, at one fid after the other: a server that takes "a/b" for a name would follow it, too. */
static inline int walk(uint32_t fid, uint32_t to, const char *name)
{
	begin(TWALK);
	put(fid, 4);
	put(to, 4);
	put(1, 2);
	put_text(name);
	return ask();
}

/* A fid that there is not is an error, and does no harm. */
static inline void clunk(uint32_t fid)
{
	begin(TCLUNK);
	put(fid, 4);
	(void)ask();
}

static inline int make(const char *name, uint32_t fid)
{
	begin(TWALK);
	put(0, 4);
	put(fid, 4);
	put(0, 2);
	assert_int_equal(ask(), 0);
	begin(TLCREATE);
	put(fid, 4);
	put_text(name);
	put(O_RDWR, 4);
	put(0644, 4);
	put(0, 4);
	return ask();
}

static inline int make_link(const char *name, const char *to)
{
	begin(TSYMLINK);
	put(0, 4);
	put_text(name);
	put_text(to);
	put(0, 4);
	return ask();
}

static inline int make_node(const char *name, mode_t mode, dev_t dev)
{
	begin(TMKNOD);
	put(0, 4);
	put_text(name);
	put(mode, 4);
	put(major(dev), 4);
	put(minor(dev), 4);
	put(0, 4);
	return ask();
}

static inline int open_it(uint32_t fid, uint32_t flags)
{
	begin(TLOPEN);
	put(fid, 4);
	put(flags, 4);
	return ask();
}

/* Whether what fid is can be opened, and begins with the secret. */
static inline bool reads_secret(uint32_t fid)
{
	if (open_it(fid, O_RDONLY) != 0)
		return false;
	begin(TREAD);
	put(fid, 4);
	put(0, 8);
	put(64, 4);
	return ask() == 0 && len >= 10 && memcmp(message + 4, "secret", 6) == 0;
}

static inline int setup(void **state)
{
	FILE *file;

	(void)state;
	strcpy(base, "/tmp/test-live.XXXXXX");
	if (!mkdtemp(base))
		return -1;
	snprintf(dir, sizeof(dir), "%s/dir", base);
	snprintf(secret, sizeof(secret), "%s/secret", base);
	file = fopen(secret, "w");
	if (!file || fputs("secret", file) == EOF || fclose(file) == EOF)
		return -1;
	return mkdir(dir, 0755);
}

static inline int teardown(void **state)
{
	char command[PATH_MAX + 16];

	(void)state;
	live_end(&live);
	snprintf(command, sizeof(command), "rm -rf '%s'", base);
	return system(command); /* a name of ours */
}

#endif
