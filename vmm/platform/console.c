/*
 * The host side of the serial console.
 *
 * Theory of operation
 *
 * Everything happens on the loop. Serial calls console_wake when there is output, or when
 * it accepts input that it has refused. It also does so once at the start, which posts
 * the first read. At most one operation is in flight in each direction:
 *
 *	output	idle -> write of at most OUT_MAX bytes -> done: serial_tx_done -> next piece, or idle
 *			  `-> -EAGAIN (somebody made the file non-blocking): poll -> write
 *	input	idle -> read -> done: escapes, then to serial as far as it takes them -> read again while there is room
 *			  `-> -EAGAIN: poll -> read
 *
 * Output to a regular file is written at once, by write(2). io_uring would hand the write
 * to a kernel thread, which then stays and wakes up every five seconds; and to wake it
 * costs more than to copy 4 KiB to the page cache.
 *
 * A muted console whose output would be a pipe or socket does not give that to the loop: before
 * Linux 6.4, a ring gives up a file after a grace period of RCU only, 10 ms. If it is unmuted, it
 * polls an epoll(7) set that has the file, and then writes by write(2).
 *
 * A full submission queue defers the attempt to the next turn (again). After console_stop
 * nothing is started any more. An earlier -ECANCELED means that an operation needs a
 * thread of io_uring's where none can be started. Output is then retried a little later;
 * input has ended.
 *
 * Backpressure: from a file or pipe, the next IN_MAX bytes are read when serial has taken
 * the last ones. Bytes that the guest does not read stay with the writer. From a
 * terminal, KEYS_MAX keys are read ahead, so that Ctrl-A x works on a guest that has
 * stopped reading. Escapes exist on a terminal only; in any other input all bytes are
 * data. EOF on input does not end the guest.
 *
 * In the background of a terminal ("behind"), keys are for another program, and to read
 * them would stop mayfly (SIGTTIN). Nothing tells that it has come to the foreground. So the
 * terminal is polled, and when something was typed, is_ours is asked, again after BEHIND_MS
 * as long as it is for another. In a jail, where that cannot be seen, the read fails (EIO).
 * Keys that were read are proof: on_foreground is called for the first ones.
 *
 * Output that fails: on a full disk (ENOSPC, EDQUOT) the piece is lost, and the next one
 * is tried again. On any other error (EPIPE: the reader is gone) all further output is
 * lost. Either is logged once, and the guest continues. Output that is dropped, or goes
 * to a file, gets SERIAL_TX_SIZE bytes of a turn at most, however fast it comes. uart.c
 * handles a reader that is merely slow. OUT_MAX is PIPE_BUF: a pipe that polls writable
 * takes that much without blocking, and a slow reader visibly makes progress.
 */
#include "vmm/platform/console.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/core/loop.h"
#include "vmm/core/timer.h"
#include "vmm/platform/serial.h"

#define OUT_MAX 4096
#define IN_MAX SERIAL_RX_SIZE /* bytes of one read */
#define KEYS_MAX 4096	      /* terminal input that waits for the guest */
#define ESCAPE 0x01	      /* Ctrl-A */
#define RETRY_MS 10
#define BEHIND_MS 100

static const char help_text[] = "\r\n"
				"Ctrl-A x  end mayfly and its guest\r\n"
				"Ctrl-A c  send a break (Linux with SysRq: the next key is a command)\r\n"
				"Ctrl-A a  send Ctrl-A\r\n"
				"Ctrl-A h  this help\r\n";

struct console {
	struct serial *serial;
	struct loop *loop;
	struct console_params params;
	struct task again;  /* for a submission queue that was full */
	struct timer retry; /* of output that io_uring had no thread for */
	bool stopped;	    /* start nothing any more */

	int out_file;  /* -1: no output, or not any more */
	int out_plain; /* the same, a descriptor for write(2): a regular file, or what out_set polls */
	int out_set;   /* an epoll set with out_plain, as the loop knows it; or -1 */
	int out_set_fd;
	struct op out_op;
	bool out_busy, out_polls, out_logged, out_lost;
	bool help_wanted, help_writing;
	const uint8_t *out_data; /* the piece being written */
	size_t out_len;
	bool out_drop; /* the piece is beyond the limit */

	int in_file; /* -1: no input, or not any more */
	struct op in_op;
	bool in_busy, in_polls;
	bool is_tty;
	bool hung_up;
	bool behind;	   /* a terminal whose foreground is another program */
	bool was_behind;   /* since keys were last read */
	struct timer look; /* for when to look at that again */
	bool escaped;	   /* the last key was ESCAPE */
	uint8_t in[IN_MAX];
	uint16_t keys[KEYS_MAX]; /* read and not yet taken by serial */
	unsigned keys_len;
};

static void console_output_done(struct op *op, int res);
static void console_input_done(struct op *op, int res);

/* The write of out_data and out_len, or the poll before it. */
static void console_submit_output(struct console *c, bool poll)
{
	if (c->stopped)
		return;
	c->out_op.done = console_output_done;
	c->out_polls = poll;
	if (c->out_set >= 0)
		c->out_busy = loop_poll(c->loop, &c->out_op, c->out_set, POLLIN);
	else if (poll)
		c->out_busy = loop_poll(c->loop, &c->out_op, c->out_file, POLLOUT);
	else
		c->out_busy = loop_write(c->loop, &c->out_op, c->out_file, c->out_data, (unsigned)c->out_len,
					 LOOP_NO_OFFSET);
	if (!c->out_busy)
		loop_defer(c->loop, &c->again);
}

/* Ends the piece: len bytes of it are gone. */
static void console_end_piece(struct console *c, size_t len)
{
	c->out_len = 0;
	if (c->help_writing)
		c->help_writing = false; /* the missing part is not worth a second write */
	else
		serial_tx_done(c->serial, len);
}

static void console_output_failed(struct console *c, int error)
{
	bool full = error == -ENOSPC || error == -EDQUOT;

	if (!c->out_logged)
		log_warn("guest output cannot be written: %s; %s, continuing", strerror(-error),
			 full ? "some is lost" : "the rest is dropped");
	c->out_logged = true;
	c->out_lost |= error != -EPIPE; /* a reader that has gone wants no more */
	if (!full)
		c->out_file = c->out_plain = -1;
	console_end_piece(c, c->out_len);
}

static void console_write_plain(struct console *c)
{
	int r = fdio_write_all(c->out_plain, c->out_data, c->out_len);

	if (r < 0)
		console_output_failed(c, r);
	else
		console_end_piece(c, c->out_len);
}

/* The next piece, as far as it may be written; or one to be dropped. */
static void console_take_piece(struct console *c)
{
	size_t len = c->out_len = serial_tx_peek(c->serial, &c->out_data, OUT_MAX);

	if (len && c->params.admit)
		len = c->params.admit(c->params.ctx, len);
	c->out_drop = !len;
	if (len)
		c->out_len = len;
}

static void console_output(struct console *c)
{
	size_t taken = 0;

	while (!c->out_busy && !c->stopped && !c->retry.set) {
		if (!c->out_len && c->help_wanted) {
			c->help_wanted = false;
			c->help_writing = true;
			c->out_data = (const uint8_t *)help_text;
			c->out_len = sizeof(help_text) - 1;
			c->out_drop = false;
		}
		if (!c->out_len)
			console_take_piece(c);
		if (!c->out_len)
			return;
		taken += c->out_len;
		if (c->out_drop || c->params.muted || (c->out_file < 0 && c->out_plain < 0)) {
			console_end_piece(c, c->out_len);
		} else if (c->out_plain >= 0 && c->out_set < 0) {
			console_write_plain(c);
		} else {
			console_submit_output(c, c->out_set >= 0);
			return;
		}
		if (taken >= SERIAL_TX_SIZE) {
			loop_defer(c->loop, &c->again);
			return;
		}
	}
}

/* The piece stays; if it takes too long the UART drops what comes behind it, as for a slow reader. */
static void console_wait_for_thread(struct console *c)
{
	struct timers *timers = loop_timers(c->loop);

	if (!c->out_logged)
		log_warn("guest output has to wait: %s; continuing", loop_strerror(-ECANCELED));
	c->out_logged = true;
	timer_set(timers, &c->retry, timers->now_ns + RETRY_MS * 1000000ULL);
}

static void console_retry(struct timer *timer)
{
	console_output(MF_CONTAINER_OF(timer, struct console, retry));
}

/* out_plain has room for PIPE_BUF bytes, which is as much as a piece has. */
static int console_write_polled(const struct console *c)
{
	ssize_t n = write(c->out_plain, c->out_data, c->out_len);

	return n < 0 ? -errno : (int)n;
}

static void console_output_done(struct op *op, int res)
{
	struct console *c = MF_CONTAINER_OF(op, struct console, out_op);

	c->out_busy = false;
	if (c->out_polls && res > 0) /* writable */
		res = c->out_set >= 0 && !c->stopped ? console_write_polled(c) : -EINTR;
	if (res > 0) {
		console_end_piece(c, (size_t)res);
	} else if (c->stopped) {
		console_end_piece(c, 0);
	} else if (res == -EAGAIN) {
		console_submit_output(c, true);
		return;
	} else if (res == -ECANCELED) {
		console_wait_for_thread(c);
		return;
	} else if (res != -EINTR) {
		console_output_failed(c, res ? res : -EIO);
	}
	console_output(c);
}

/* A byte that the user typed. */
static void console_key(struct console *c, uint8_t key)
{
	if (!c->escaped) {
		c->escaped = key == ESCAPE;
		if (!c->escaped)
			c->keys[c->keys_len++] = key;
		return;
	}
	c->escaped = false;
	switch (key) {
	case 'x':
		c->params.on_quit(c->params.ctx);
		break;
	case 'c':
		c->keys[c->keys_len++] = SERIAL_BREAK;
		break;
	case 'h':
	case '?':
		c->help_wanted = true;
		console_output(c);
		break;
	case 'a':
	case ESCAPE: /* as other monitors and terminal programs have it */
		c->keys[c->keys_len++] = ESCAPE;
		break;
	default:
		c->keys[c->keys_len++] = ESCAPE;
		c->keys[c->keys_len++] = key;
		break;
	}
}

static void console_submit_input(struct console *c, unsigned len, bool poll)
{
	if (c->stopped)
		return;
	c->in_op.done = console_input_done;
	c->in_polls = poll;
	c->in_busy = poll ? loop_poll(c->loop, &c->in_op, c->in_file, POLLIN) :
			    loop_read(c->loop, &c->in_op, c->in_file, c->in, len, LOOP_NO_OFFSET);
	if (!c->in_busy)
		loop_defer(c->loop, &c->again);
}

static void console_input(struct console *c)
{
	size_t taken = serial_rx_push(c->serial, c->keys, c->keys_len);
	unsigned room = 0;

	c->keys_len -= (unsigned)taken;
	memmove(c->keys, c->keys + taken, c->keys_len * sizeof(c->keys[0]));
	if (c->in_busy || c->in_file < 0 || c->look.set)
		return;
	if (c->behind)
		console_submit_input(c, 0, true);
	else if (c->is_tty)
		room = KEYS_MAX - MF_MIN(c->keys_len + 1, KEYS_MAX); /* n bytes are n + 1 keys if an escape was none */
	else
		room = c->keys_len ? 0 : IN_MAX;
	if (!c->behind && room)
		console_submit_input(c, MF_MIN(room, IN_MAX), false);
}

/* Something was typed, or could not be read: for us, or is it another's turn to read it? */
static void console_look(struct console *c, bool failed)
{
	struct timers *timers = loop_timers(c->loop);

	c->behind = failed || (c->params.is_ours && !c->params.is_ours(c->params.ctx));
	c->was_behind |= c->behind;
	if (c->behind)
		timer_set(timers, &c->look, timers->now_ns + BEHIND_MS * 1000000ULL);
}

/* Keys have come, which are only read in the foreground. */
static void console_foreground(struct console *c)
{
	if (c->was_behind && c->params.on_foreground)
		c->params.on_foreground(c->params.ctx);
	c->was_behind = false;
}

static void console_look_again(struct timer *timer)
{
	console_input(MF_CONTAINER_OF(timer, struct console, look));
}

static void console_input_done(struct op *op, int res)
{
	struct console *c = MF_CONTAINER_OF(op, struct console, in_op);

	c->in_busy = false;
	if (c->stopped)
		return;
	if (c->in_polls && res > 0) {
		c->hung_up = res & POLLHUP;
		if (c->hung_up)
			c->behind = false;
		else if (c->behind)
			console_look(c, false);
		res = -EINTR; /* readable: try again */
	} else if (res == -EIO && c->is_tty && !c->hung_up) {
		console_look(c, true);
		res = -EINTR;
	}
	if (res == -EAGAIN) {
		console_submit_input(c, 0, true);
		return;
	}
	if (res <= 0 && res != -EINTR) {
		log_at(res == -ECANCELED ? LOG_LEVEL_WARN : LOG_LEVEL_DEBUG, "end of input: %s%s",
		       res ? loop_strerror(res) : "end of file", res == -ECANCELED ? "; continuing" : "");
		c->in_file = -1;
	}
	if (res > 0)
		console_foreground(c);
	for (int i = 0; i < res; i++) {
		if (c->is_tty)
			console_key(c, c->in[i]);
		else
			c->keys[c->keys_len++] = c->in[i];
	}
	console_input(c);
}

static void console_again(struct task *task)
{
	struct console *c = MF_CONTAINER_OF(task, struct console, again);

	console_output(c);
	console_input(c);
}

static void console_wake(void *ctx)
{
	struct console *c = ctx;

	console_output(c);
	console_input(c);
}

static void console_show(void *ctx, const uint8_t *data, size_t len)
{
	struct console *c = ctx;

	if (c->params.on_output)
		c->params.on_output(c->params.ctx, data, len);
}

static const struct serial_host console_host = { .wake = console_wake, .output = console_show };

static int console_add_output(struct console *c, int fd)
{
	struct epoll_event event = { .events = EPOLLOUT };
	struct stat st;
	int r = fstat(fd, &st);

	if (r == 0 && S_ISREG(st.st_mode)) {
		c->out_plain = fd;
		return 0;
	}
	if (r < 0 || !c->params.muted || (!S_ISFIFO(st.st_mode) && !S_ISSOCK(st.st_mode))) {
		c->out_file = loop_add_file(c->loop, fd);
		return MF_MIN(c->out_file, 0);
	}
	c->out_plain = fd;
	c->out_set_fd = epoll_create1(EPOLL_CLOEXEC);
	if (c->out_set_fd < 0 || epoll_ctl(c->out_set_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		return -errno;
	c->out_set = loop_add_file(c->loop, c->out_set_fd);
	return MF_MIN(c->out_set, 0);
}

int console_new(struct console **ret, struct serial *serial, struct loop *loop, const struct console_params *params,
		struct err *e)
{
	struct console *c = calloc(1, sizeof(*c));
	int r = 0;

	if (!c)
		return err_set(e, -ENOMEM, "no memory for the console");
	c->serial = serial;
	c->loop = loop;
	c->params = *params;
	c->again.run = console_again;
	c->retry.fire = console_retry;
	c->look.fire = console_look_again;
	c->is_tty = params->in_fd >= 0 && isatty(params->in_fd);
	c->behind = c->is_tty && params->is_ours && !params->is_ours(params->ctx);
	c->was_behind = c->is_tty; /* in a jail that is not known: a shell may read all keys before us */
	c->in_file = c->out_file = c->out_plain = c->out_set = c->out_set_fd = -1;
	if (params->in_fd >= 0) {
		c->in_file = loop_add_file(loop, params->in_fd);
		r = MF_MIN(c->in_file, 0);
	}
	if (r == 0 && params->out_fd >= 0)
		r = console_add_output(c, params->out_fd);
	if (r < 0) {
		console_free(c);
		return err_neg(e, r, "give the console's files to the loop");
	}
	serial_set_host(serial, &console_host, c);
	*ret = c;
	return 0;
}

int console_plain_fd(const struct console *c)
{
	return c->out_plain;
}

bool console_has_lost(const struct console *c)
{
	return c && c->out_lost;
}

void console_unmute(struct console *c)
{
	c->params.muted = false;
}

static int console_stop_call(void *arg)
{
	((struct console *)arg)->stopped = true;
	return 0;
}

void console_stop(struct console *c)
{
	if (c)
		(void)loop_call(c->loop, console_stop_call, c); /* it gives 0 */
}

void console_free(struct console *c)
{
	if (c && c->out_set_fd >= 0)
		close(c->out_set_fd);
	free(c);
}
