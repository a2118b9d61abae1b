/* The streams of a command that runs in a guest; see stdio_relay.h. */
#include "vmm/guest/stdio_relay.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/major.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/guest/until.h"
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
static void discard(const struct stdio_relay_pump *p)
{
	while (read(p->from, p->buf, PUMP_SIZE) > 0)
		;
}

/* read(2), also from a file that another process has set to non-blocking. */
static ssize_t pump_read(const struct stdio_relay_pump *p)
{
	struct pollfd wait = { .fd = p->from, .events = POLLIN };
	ssize_t n;

	for (;;) {
		n = read(p->from, p->buf, PUMP_SIZE);
		if (n >= 0 || (errno != EINTR && errno != EAGAIN))
			return n;
		if (errno == EAGAIN)
			(void)poll(&wait, 1, -1); /* if it fails, read is tried again */
	}
}

/*
 * The same for a terminal, which is ours to read in its foreground only. Keys that are typed while
 * we are in the background are for another program, and to read them would stop us (SIGTTIN) or
 * fail. No event reports that we have come to the foreground, so that is checked when keys are
 * typed.
 */
static ssize_t pump_read_tty(struct stdio_relay_pump *p)
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
		n = read(p->from, p->buf, PUMP_SIZE);
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

static void input_ended(const struct stdio_relay_pump *p)
{
	(void)shutdown(p->to, SHUT_WR); /* what fails here has ended already */
}

static void output_came(struct stdio_relay *s)
{
	if (s->on_output && !atomic_exchange(&s->seen, true))
		s->on_output(s->ctx);
}

/* What p->buf begins with was read. */
static void output_scan(const struct stdio_relay_pump *p, size_t len)
{
	struct stdio_relay *s = p->relay;

	if (s->until && !p->is_input &&
	    until_scan(s->until, p == &s->pump[1] ? UNTIL_STDOUT : UNTIL_STDERR, p->buf, len))
		fdio_event_signal(s->changed_fd);
}

/* With error, or 0. */
static void output_ended(struct stdio_relay_pump *p, int error)
{
	if (error) {
		if (error != -EPIPE) {
			log_warn("output of the command cannot be written: %s; the rest is dropped, continuing",
				 strerror(-error));
			atomic_store(&p->relay->lost, true);
		}
		(void)shutdown(p->from, SHUT_RDWR); /* the command gets EPIPE, too */
		discard(p);
	}
	atomic_fetch_sub(&p->relay->outputs, 1);
	fdio_event_signal(p->relay->changed_fd);
}

/* A stream with a thread of its own. */

static void pump_input(struct stdio_relay_pump *p)
{
	unsigned presses = 0;
	uint64_t first_ms = 0;
	ssize_t n;

	while ((n = p->is_tty ? pump_read_tty(p) : pump_read(p)) > 0) {
		if (p->relay->tty && wants_to_leave(p->buf, (size_t)n, &presses, &first_ms)) {
			atomic_store(&p->relay->left, true);
			fdio_event_signal(p->relay->changed_fd);
			return;
		}
		if (pump_write(p->to, p->buf, (size_t)n) < 0)
			return; /* the command has closed its input, or is over */
	}
	input_ended(p);
}

static void pump_output(struct stdio_relay_pump *p)
{
	ssize_t n;
	int r = 0;

	while (r == 0 && (n = pump_read(p)) > 0) {
		output_came(p->relay);
		output_scan(p, (size_t)n);
		r = pump_write(p->to, p->buf, (size_t)n);
	}
	output_ended(p, r);
}

/*
 * Streams that share a thread. No call blocks here, but for poll: the guest's ends are
 * non-blocking, and the others' files never block, or are pipes and spliced.
 */

/* Moves some bytes. Returns their number, 0 at the end of from, or -errno of to; -EAGAIN is of either. */
static ssize_t share_move(struct stdio_relay_pump *p)
{
	ssize_t n;

	if (p->splices) {
		n = splice(p->from, NULL, p->to, NULL, PUMP_SIZE, SPLICE_F_NONBLOCK);
		return n >= 0 ? n : errno == ECONNRESET ? 0 : -errno;
	}
	if (!p->len) {
		n = read(p->from, p->buf, PUMP_SIZE);
		if (n <= 0)
			return n < 0 && (errno == EAGAIN || errno == EINTR) ? -errno : 0;
		p->at = 0;
		p->len = (size_t)n;
		output_scan(p, p->len);
	}
	n = write(p->to, p->buf + p->at, p->len);
	if (n < 0)
		return -errno;
	p->at += (size_t)n;
	p->len -= (size_t)n;
	return n;
}

/* Serves a stream that poll has reported. Returns whether it continues. */
static bool share_step(struct stdio_relay_pump *p)
{
	ssize_t n = share_move(p);

	if (n > 0 || n == -EAGAIN || n == -EINTR) {
		/* A splice does not say whose turn it is: where the one side was ready, the other is not. */
		p->waits_to = p->splices ? n == -EAGAIN && !p->waits_to : p->len > 0;
		if (n > 0 && !p->is_input)
			output_came(p->relay);
		return true;
	}
	if (p->is_input)
		input_ended(p);
	else
		output_ended(p, (int)n);
	return false;
}

static void share_serve(struct stdio_relay *s, unsigned streams)
{
	struct pollfd fds[STDIO_RELAY_STREAMS];

	while (streams) {
		for (unsigned i = 0; i < STDIO_RELAY_STREAMS; i++) {
			const struct stdio_relay_pump *p = &s->pump[i];

			fds[i] = (struct pollfd){ .fd = p->waits_to ? p->to : p->from,
						  .events = p->waits_to ? POLLOUT : POLLIN };
			if (!(streams & 1U << i))
				fds[i].fd = -1;
		}
		if (poll(fds, STDIO_RELAY_STREAMS, -1) < 0)
			continue; /* EINTR */
		for (unsigned i = 0; i < STDIO_RELAY_STREAMS; i++)
			if (fds[i].revents && !share_step(&s->pump[i]))
				streams &= ~(1U << i);
	}
}

/* Until the streams are there. Returns whether this one is one of the session. */
static bool await_streams(const struct stdio_relay *s, const struct stdio_relay_pump *p)
{
	struct pollfd gate = { .fd = s->gate_fd, .events = POLLIN };

	while (poll(&gate, 1, -1) <= 0)
		; /* EINTR */
	return !s->tty || p != &s->pump[2];
}

static void *thread_main(void *arg)
{
	struct stdio_relay_thread *t = arg;
	struct stdio_relay_pump *p = &t->relay->pump[t - t->relay->thread];
	const char *name = t->shared ? "streams" : p->is_input ? "input" : "output";
	struct err e;

	(void)pthread_setname_np(pthread_self(), name); /* for people only */
	log_set_thread(name);
	if (t->relay->guard && t->relay->guard(t->relay->ctx, t, &e) < 0) {
		log_error("%s", e.text);
		return NULL;
	}
	if (t->relay->later && !await_streams(t->relay, p))
		return NULL;
	if (t->shared)
		share_serve(t->relay, t->streams);
	else if (p->is_input)
		pump_input(p);
	else
		pump_output(p);
	return NULL;
}

static bool is_kind(int fd, mode_t kind)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (st.st_mode & S_IFMT) == kind;
}

/* Of fd, an end of mayfly's own: no call waits for another program. /dev/null and its like never do. */
static bool never_blocks(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || (S_ISCHR(st.st_mode) && major(st.st_rdev) == MEM_MAJOR));
}

/* Makes the pump of stream i, and returns whether it shares its thread. None of a terminal session does. */
static bool set_pump(struct stdio_relay *s, unsigned i, int fd)
{
	struct stdio_relay_pump *p = &s->pump[i];
	const bool is_input = i == 0;
	/* A splice shows nobody what it moves. */
	const bool splices = !s->until && !s->later && !s->tty && is_kind((int)i, S_IFIFO) && is_kind(fd, S_IFSOCK);
	const bool shares = splices || (!s->tty && !s->later && never_blocks((int)i));

	*p = (struct stdio_relay_pump){
		.relay = s,
		.from = is_input ? STDIN_FILENO : fd,
		.to = is_input ? fd : (int)i,
		.is_input = is_input,
		.is_tty = is_input && isatty(STDIN_FILENO),
		.buf = s->bufs + (size_t)i * PUMP_SIZE,
		.splices = splices,
	};
	return shares;
}

static int start_thread(struct stdio_relay_thread *t, struct err *e)
{
	pthread_attr_t attr;
	int r;

	(void)pthread_attr_init(&attr); /* cannot fail on Linux */
	ending_block_all(&attr);
	r = pthread_create(&t->thread, &attr, thread_main, t);
	pthread_attr_destroy(&attr);
	if (r)
		return err_neg(e, -r, "start a thread for the command's streams");
	t->started = true;
	return 0;
}

int stdio_relay_start(struct stdio_relay *s, bool tty, const int fd[STDIO_RELAY_STREAMS], struct err *e)
{
	unsigned shared = STDIO_RELAY_STREAMS;
	int r = 0;

	s->tty = tty;
	atomic_store(&s->outputs, s->later ? 0 : tty ? 1 : 2);
	s->changed_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->gate_fd = s->later ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1;
	if (s->changed_fd < 0 || (s->later && s->gate_fd < 0))
		return err_sys(e, "make an eventfd");
	s->bufs = calloc(STDIO_RELAY_STREAMS, PUMP_SIZE);
	if (!s->bufs)
		return err_set(e, -ENOMEM, "no memory for the command's streams");
	for (unsigned i = 0; i < (tty ? 2 : STDIO_RELAY_STREAMS); i++) {
		const int end = fd[tty ? 0 : i]; /* a terminal's goes both ways */
		const bool shares = set_pump(s, i, end);

		if (shares && shared == STDIO_RELAY_STREAMS)
			shared = i;
		s->thread[i].relay = s;
		s->thread[i].shared = shares;
		s->thread[shares ? shared : i].streams |= 1U << i;
		(void)fcntl(end, F_SETFL, shares ? O_NONBLOCK : 0); /* cannot fail; no tty shares */
	}
	for (unsigned i = 0; !r && i < STDIO_RELAY_STREAMS; i++)
		if (s->thread[i].streams)
			r = start_thread(&s->thread[i], e);
	s->started = !r;
	return r;
}

void stdio_relay_open(struct stdio_relay *s, bool tty)
{
	/* The threads read this behind the eventfd. */
	s->tty = tty;
	s->pump[0].is_tty = isatty(STDIN_FILENO);
	atomic_store(&s->outputs, tty ? 1 : 2);
	fdio_event_signal(s->gate_fd);
}

int stdio_relay_confine(const struct stdio_relay_thread *thread, const struct confine *confine, struct err *e)
{
	const struct stdio_relay *s = thread->relay;
	const struct stdio_relay_pump *p = &s->pump[thread - s->thread];
	struct confine_own own = CONFINE_OWN_NONE;

	own.changed = s->changed_fd;
	if (thread->shared) {
		for (unsigned i = 0; i < STDIO_RELAY_STREAMS; i++)
			if (thread->streams & 1U << i)
				own.watch[i] = s->pump[i].is_input ? s->pump[i].to : s->pump[i].from;
	} else {
		own.own = p->from;
		own.to = p->to;
	}
	crash_thread();
	return confine_thread(confine, thread->shared ? THREAD_STREAMS : THREAD_PUMP, &own, e);
}

bool stdio_relay_is_done(const struct stdio_relay *s)
{
	return atomic_load(&s->outputs) == 0;
}

void stdio_relay_end(struct stdio_relay *s, unsigned timeout_ms)
{
	const uint64_t until = clock_now_ms() + timeout_ms;
	struct pollfd changed = { .fd = s->changed_fd, .events = POLLIN };
	uint64_t now, count;

	while (s->started && !stdio_relay_is_done(s)) {
		now = clock_now_ms();
		if (now >= until || poll(&changed, 1, (int)(until - now)) == 0) {
			if (timeout_ms)
				log_warn("the reader of the command's output is too slow: the last of it is lost, "
					 "continuing");
			atomic_store(&s->lost, true);
			return;
		}
		(void)!read(s->changed_fd, &count, sizeof(count)); /* only clears it */
	}
}
