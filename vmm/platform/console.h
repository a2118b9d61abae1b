/* The host side of the serial console: two file descriptors on the loop, and escapes. */
#ifndef MF_PLATFORM_CONSOLE_H
#define MF_PLATFORM_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct console;
struct err;
struct loop;
struct serial;

struct console_params {
	int in_fd;		    /* guest input, or -1: none. Not owned; open until console_free */
	int out_fd;		    /* guest output, or -1: dropped. Not owned either */
	bool muted;		    /* output is dropped until console_unmute */
	void (*on_quit)(void *ctx); /* the user typed Ctrl-A x; on the loop */
	/*
	 * Of a terminal, or NULL: whether mayfly may read it, since it is in the foreground; it is
	 * there, since keys were read. Called where console_new is, and on the loop.
	 */
	bool (*is_ours)(void *ctx);
	void (*on_foreground)(void *ctx);
	/*
	 * Or NULL: sees all output once, before it is written and at the latest in
	 * serial_drain; on the loop.
	 */
	void (*on_output)(void *ctx, const uint8_t *data, size_t len);
	/*
	 * Or NULL: how many of the next len bytes of output are written; if it returns 0, they are dropped. On
	 * the loop.
	 */
	size_t (*admit)(void *ctx, size_t len);
	void *ctx;
};

/*
 * Connects serial to the files. Escapes (Ctrl-A) exist on a terminal only. Before
 * loop_start; the process ignores SIGPIPE. Returns 0 or -errno with e set.
 */
int console_new(struct console **ret, struct serial *serial, struct loop *loop, const struct console_params *params,
		struct err *e);

/* The descriptor that the loop's thread writes output to by write(2), for its seccomp filter; or -1. */
int console_plain_fd(const struct console *c);

/* Whether output could not be written, for another reason than that its reader has gone. After loop_stop. NULL: no. */
bool console_has_lost(const struct console *c);

/* Output is written from now on. On the loop's thread, as in on_output. */
void console_unmute(struct console *c);

/*
 * Starts no further operation from now on; loop_stop cancels those in flight. Without
 * this call, a write to a slow reader might hold up loop_stop indefinitely. Any thread
 * but the loop's. NULL is fine.
 */
void console_stop(struct console *c);

/* After the loop has stopped. NULL is fine. Does not restore the terminal. */
void console_free(struct console *c);

#endif
