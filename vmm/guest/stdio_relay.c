/* The streams of a command that runs in a guest; see stdio_relay.h. */
#include "vmm/guest/stdio_relay.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/process/confine.h"
#include "vmm/process/crash.h"
#include "vmm/process/ending.h"
#include "vmm/process/tty.h"

#define PUMP_SIZE 65536
#define LEAVE_KEY 0x1d /* Ctrl-], as in other programs that stand between a terminal and a machine */
#define LEAVE_PRESSES 3
#define LEAVE_MS 1000
#define BACKGROUND_MS 100

uint32_t stdio_relay_tty_size(void)
{
	struct winsize size;

	if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) < 0)
		return 0;
	return (uint32_t)size.ws_row << 16 | size.ws_col;
}

const char *stdio_relay_tty_text(char text[STDIO_RELAY_TTY_TEXT_MAX])
{
	uint32_t size = stdio_relay_tty_size();

	text[0] = '\0';
	if (size)
		snprintf(text, STDIO_RELAY_TTY_TEXT_MAX, "%ux%u", size >> 16, size & 0xffff);
	return text;
}

int stdio_relay_make_pairs(int fd[STDIO_RELAY_STREAMS], int ret_others[STDIO_RELAY_STREAMS], bool tty, struct err *e)
{
	for (unsigned i = 0; i < STDIO_RELAY_STREAMS; i++)
		fd[i] = ret_others[i] = -1;
	for (unsigned i = 0; i < (tty ? 1 : STDIO_RELAY_STREAMS); i++) {
		int pair[2];

		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
			err_sys(e, "make a socket pair");
			for (unsigned j = 0; j < i; j++) {
				close(fd[j]);
				close(ret_others[j]);
			}
			return e->code;
		}
		fd[i] = pair[0];
		ret_others[i] = pair[1];
	}
	return 0;
}

/* Ctrl-] three times within a second: presses and first_ms are kept from call to call. */
static bool wants_to_leave(const char *data, size_t len, unsigned *presses, uint64_t *first_ms)
{
	for (size_t i = 0; i < len; i++) {
		if (data[i] != LEAVE_KEY) {
			*presses = 0;
			continue;
		}
		if (*presses == 0 || clock_now_ms() - *first_ms > LEAVE_MS) {
			*presses = 0;
			*first_ms = clock_now_ms();
		}
		if (++*presses == LEAVE_PRESSES)
			return true;
	}
	return false;
}

/* Reads what has no reader any more: the guest's end must not wait for us. */
static void discard(int fd, char *buf)
{
	while (read(fd, buf, PUMP_SIZE) > 0)
		;
}

/* read(2), also from a file that another process has set to non-blocking. */
static ssize_t pump_read(int fd, char *buf)
{
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	ssize_t n;

	for (;;) {
		n = read(fd, buf, PUMP_SIZE);
		if (n >= 0 || (errno != EINTR && errno != EAGAIN))
			return n;
		if (errno == EAGAIN)
			(void)poll(&wait, 1, -1); /* if it fails, read is tried again */
	}
}

/*
 * The same of a terminal, which is ours to read in its foreground only: what is typed while we are in the background is for
 * another, and reading it would stop us (SIGTTIN) or be an error. Nothing says that we have come to the foreground, so that
 * is looked for when something is typed.
 */
static ssize_t pump_read_tty(struct stdio_relay_pump *p, char *buf)
{
	struct pollfd typed = { .fd = p->from, .events = POLLIN };
	bool behind = false;
	ssize_t n;

	for (;;) {
		(void)poll(&typed, 1, -1); /* if it fails, the rest finds out why */
		if (!tty_is_ours(p->from)) {
			behind = true;
			(void)poll(NULL, 0, BACKGROUND_MS); /* until the other has read it */
			continue;
		}
		if (behind) {
			behind = false;
			atomic_store(&p->relay->foreground, true);
			fdio_event_signal(p->relay->changed_fd);
		}
		n = read(p->from, buf, PUMP_SIZE);
		if (n >= 0 || (errno != EINTR && errno != EAGAIN && errno != EIO) || typed.revents & POLLHUP)
			return n;
		behind = errno == EIO; /* in a jail, whose foreground it is cannot be seen */
		if (behind)
			(void)poll(NULL, 0, BACKGROUND_MS);
	}
}

static int pump_write(int fd, const char *data, size_t len)
{
	struct pollfd wait = { .fd = fd, .events = POLLOUT };

	while (len > 0) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EAGAIN) {
			(void)poll(&wait, 1, -1);
		} else if (n < 0 && errno != EINTR) {
			return -errno;
		} else if (n > 0) {
			data += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

static void pump_input(struct stdio_relay_pump *p, char *buf)
{
	unsigned presses = 0;
	uint64_t first_ms = 0;
	ssize_t n;

	while ((n = p->is_tty ? pump_read_tty(p, buf) : pump_read(p->from, buf)) > 0) {
		if (p->relay->tty && wants_to_leave(buf, (size_t)n, &presses, &first_ms)) {
			atomic_store(&p->relay->left, true);
			fdio_event_signal(p->relay->changed_fd);
			return;
		}
		if (pump_write(p->to, buf, (size_t)n) < 0)
			return; /* the command has closed its input, or is over */
	}
	(void)shutdown(p->to, SHUT_WR); /* what fails here has ended already */
}

static void pump_output(struct stdio_relay_pump *p, char *buf)
{
	ssize_t n;
	int r = 0;

	while (r == 0 && (n = pump_read(p->from, buf)) > 0) {
		if (p->relay->on_output && !atomic_exchange(&p->relay->seen, true))
			p->relay->on_output(p->relay->ctx);
		r = pump_write(p->to, buf, (size_t)n);
	}
	if (r < 0) {
		if (r != -EPIPE) {
			log_warn("output of the command cannot be written: %s; the rest is dropped, continuing",
				 strerror(-r));
			atomic_store(&p->relay->lost, true);
		}
		(void)shutdown(p->from, SHUT_RDWR); /* the command gets EPIPE, too */
		discard(p->from, buf);
	}
	atomic_fetch_sub(&p->relay->outputs, 1);
	fdio_event_signal(p->relay->changed_fd);
}

static void *pump_main(void *arg)
{
	struct stdio_relay_pump *p = arg;
	char buf[PUMP_SIZE];
	struct err e;

	(void)pthread_setname_np(pthread_self(), p->is_input ? "input" : "output"); /* for people only */
	log_set_thread(p->is_input ? "input" : "output");
	if (p->relay->guard && p->relay->guard(p->relay->ctx, p, &e) < 0) {
		log_error("%s", e.text);
		return NULL;
	}
	if (p->is_input)
		pump_input(p, buf);
	else
		pump_output(p, buf);
	return NULL;
}

static int start_pump(struct stdio_relay *s, unsigned i, int from, int to, bool is_input, struct err *e)
{
	struct stdio_relay_pump *p = &s->pump[i];
	pthread_attr_t attr;
	int r;

	(void)fcntl(is_input ? to : from, F_SETFL, 0); /* cannot fail */
	*p = (struct stdio_relay_pump){ .relay = s, .from = from, .to = to, .is_input = is_input };
	p->is_tty = is_input && isatty(from);
	(void)pthread_attr_init(&attr); /* cannot fail on Linux */
	ending_block_all(&attr);
	r = pthread_create(&p->thread, &attr, pump_main, p);
	pthread_attr_destroy(&attr);
	if (r)
		return err_neg(e, -r, "start a thread for the command's streams");
	p->started = true;
	return 0;
}

int stdio_relay_start(struct stdio_relay *s, bool tty, const int fd[STDIO_RELAY_STREAMS], struct err *e)
{
	int r;

	s->tty = tty;
	atomic_store(&s->outputs, tty ? 1 : 2);
	s->changed_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->changed_fd < 0)
		return err_sys(e, "make an eventfd");
	r = start_pump(s, 1, fd[tty ? 0 : 1], STDOUT_FILENO, false, e);
	if (!r && !tty)
		r = start_pump(s, 2, fd[2], STDERR_FILENO, false, e);
	return r ? r : start_pump(s, 0, STDIN_FILENO, fd[0], true, e);
}

int stdio_relay_confine(const struct stdio_relay_pump *pump, const struct confine *confine, struct err *e)
{
	struct confine_own own = CONFINE_OWN_NONE;

	own.own = pump->from;
	own.to = pump->to;
	own.changed = pump->relay->changed_fd;
	crash_thread();
	return confine_thread(confine, THREAD_PUMP, &own, e);
}

bool stdio_relay_is_done(const struct stdio_relay *s)
{
	return atomic_load(&s->outputs) == 0;
}

void stdio_relay_end(struct stdio_relay *s, unsigned timeout_ms)
{
	const struct timespec until = clock_deadline(timeout_ms);

	for (unsigned i = 1; i < STDIO_RELAY_STREAMS; i++) {
		if (!s->pump[i].started || pthread_clockjoin_np(s->pump[i].thread, NULL, CLOCK_MONOTONIC, &until) == 0)
			continue;
		if (timeout_ms)
			log_warn("the reader of the command's output is too slow: the last of it is lost, continuing");
		atomic_store(&s->lost, true);
		return;
	}
}
