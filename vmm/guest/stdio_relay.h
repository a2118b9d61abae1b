/*
 * The host's side of a command that runs in a guest: its terminal, and its streams, which
 * are relayed to mayfly's stdin, stdout and stderr. `mayfly run -- COMMAND` and `mayfly
 * exec` share it; the latter receives its ends of the streams from the monitor.
 *
 * A slow reader of stdout stops stdout, but neither stderr nor signals, and no file is switched
 * to non-blocking, which its other users would notice. So a stream that may block in a call,
 * since it is a terminal or a socket, has a thread of its own. All others share one: regular
 * files, /dev/null, and pipes, which splice(2) reads and writes without blocking. Streams of which
 * nothing is known at the start, those of a pool's client, have a thread each.
 */
#ifndef MF_GUEST_STDIO_RELAY_H
#define MF_GUEST_STDIO_RELAY_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct confine;
struct err;
struct until;

#define STDIO_RELAY_STREAMS 3

struct stdio_relay;

/* One direction of one stream. */
struct stdio_relay_pump {
	struct stdio_relay *relay;
	int from, to;
	bool is_input; /* watched for the keys that end a terminal session; EOF is forwarded with shutdown(2) */
	bool is_tty;   /* and is read in the foreground alone */
	char *buf;
	/* Of one that shares its thread: */
	bool splices;
	bool waits_to;	/* for room in to, and not for bytes from from */
	size_t at, len; /* what is left in buf */
};

struct stdio_relay_thread {
	struct stdio_relay *relay;
	pthread_t thread;
	unsigned streams; /* a set of 1 << stream */
	bool shared, started;
};

struct stdio_relay {
	/*
	 * Each thread calls it before it serves its streams, to drop privileges; or NULL.
	 * Returns 0, or -errno with e set, on which the thread ends. Set before
	 * stdio_relay_start.
	 */
	int (*guard)(void *ctx, const struct stdio_relay_thread *thread, struct err *e);
	void (*on_output)(
		void *ctx);  /* or NULL: called for the first output, by its thread; set before stdio_relay_start */
	struct until *until; /* or NULL: reads along what is printed; set before stdio_relay_start */
	void *ctx;
	bool later; /* stdin, stdout and stderr come with stdio_relay_open; set before stdio_relay_start */
	bool tty, started;
	int gate_fd; /* if later: eventfd, readable when they are there */
	struct stdio_relay_pump pump[STDIO_RELAY_STREAMS];
	struct stdio_relay_thread thread[STDIO_RELAY_STREAMS]; /* by their first stream */
	char *bufs;					       /* of the pumps; their pages are touched when used */
	int changed_fd;		/* eventfd: counts up when output has ended, and when foreground or left are set */
	atomic_uint outputs;	/* that have not ended yet */
	atomic_bool seen;	/* output has come */
	atomic_bool foreground; /* a terminal became ours: set its mode */
	atomic_bool left;	/* Ctrl-] was typed three times within a second */
	atomic_bool lost;	/* output could not be written, though somebody reads it */
};

/* The terminal's size as INIT_MSG_SIZE has it: rows << 16 | columns; 0 if stdin is none. */
uint32_t stdio_relay_tty_size(void);

#define STDIO_RELAY_TTY_TEXT_MAX 12

/* The same as init's text has it, ROWSxCOLUMNS, or "" if stdin is none. Returns text. */
const char *stdio_relay_tty_text(char text[STDIO_RELAY_TTY_TEXT_MAX]);

/*
 * Makes the pairs of a session: fd[] are ours and ret_others[] those of the guest's side; all are non-blocking and the
 * caller's. Returns 0 or -errno with e set.
 */
int stdio_relay_make_pairs(int fd[STDIO_RELAY_STREAMS], int ret_others[STDIO_RELAY_STREAMS], bool tty, struct err *e);

/*
 * Starts with fd[], which are the session's from here on; a terminal has only the first. Returns
 * 0 or -errno with e set; stdio_relay_end accepts either.
 */
int stdio_relay_start(struct stdio_relay *s, bool tty, const int fd[STDIO_RELAY_STREAMS], struct err *e);

/*
 * For a relay that was started without its streams (later), and without a terminal: stdin, stdout and stderr are those of the
 * session now. tty: it has a terminal, and fd[1] of stdio_relay_start is a copy of fd[0] now.
 */
void stdio_relay_open(struct stdio_relay *s, bool tty);

/*
 * For a guard: the thread handles crashes, and has the filter of its kind. Returns 0 or -errno
 * with e set.
 */
int stdio_relay_confine(const struct stdio_relay_thread *thread, const struct confine *confine, struct err *e);

/* Whether all output is written or dropped. */
bool stdio_relay_is_done(const struct stdio_relay *s);

/*
 * Waits for that, for timeout_ms at most, if the guest's ends are closed. Output that is
 * not written by then is lost. Threads that are left end with the process.
 */
void stdio_relay_end(struct stdio_relay *s, unsigned timeout_ms);

#endif
