/*
 * The monitor's talk with its init in the guest (loader/init/): the command that the VM was started for, and those that
 * `mayfly exec` adds. All on the main thread.
 */
#ifndef MF_GUEST_GUEST_CLIENT_H
#define MF_GUEST_GUEST_CLIENT_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "loader/init/proto.h"

struct guest_client;
struct config;
struct err;
struct stdio_relay_pump;
struct virtio_dev;

/* Listener, guest, the session's changes, and a client for each other command. */
#define GUEST_CLIENT_FDS_MAX (3 + INIT_COMMANDS_MAX)

/* What it tells the VM; ctx is the VM. */
struct guest_client_ops {
	void (*mark)(void *ctx, enum init_mark mark);
	void (*started)(void *ctx); /* the command runs */
	void (*output)(void *ctx);  /* its first output has come; on a thread of its own */
	/* It is over and all its output is written: with a status and flags, INIT_OOM, ...; text tells more. Once. */
	void (*exited)(void *ctx, unsigned status, unsigned flags, const char *text);
	void (*failed)(void *ctx, const char *text);
	int (*guard)(void *ctx, const struct stdio_relay_pump *pump, struct err *e); /* see stdio_relay.h */
	void (*foreground)(void *ctx); /* the terminal is ours again: its mode is to be set */
	void (*left)(void *ctx);       /* the user has typed the keys to leave */
};

/*
 * Lends the guest, by vsock, what it needs to start c's command, starts the command's streams, and listens for
 * `mayfly exec` if c says where. c and vsock are kept. Returns 0 or -errno with e set; guest_client_free accepts NULL.
 */
int guest_client_new(struct guest_client **ret, struct virtio_dev *vsock, const struct config *c,
		     const struct guest_client_ops *ops, void *ctx, struct err *e);
void guest_client_free(struct guest_client *a);

/* What to wait for; returns how many of fds, which has room for GUEST_CLIENT_FDS_MAX. Then what poll(2) said of them. */
unsigned guest_client_poll_fds(const struct guest_client *a, struct pollfd *fds);
void guest_client_serve(struct guest_client *a, const struct pollfd *fds, unsigned num);

/* How long poll(2) may wait, max_ms at most (-1: no limit). Accepts NULL. */
int guest_client_timeout(const struct guest_client *a, int max_ms);

/* For the command: a signal; its terminal has a new size. False: it does not run yet, or any more. */
bool guest_client_signal(struct guest_client *a, int signo);
void guest_client_resize(struct guest_client *a);

/* Asks the guest to end within ms. False: there is nobody to be asked. */
bool guest_client_stop(struct guest_client *a, unsigned ms);

/*
 * At the VM's end, when its ends of the streams are closed: writes what is left of the output. Whether all of it was written
 * that somebody wanted to read.
 */
bool guest_client_finish(struct guest_client *a, unsigned timeout_ms);

#endif
