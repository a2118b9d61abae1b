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

struct agent;
struct config;
struct err;
struct session_pump;
struct virtio_dev;

/* Listener, guest, the session's changes, and a client for each other command. */
#define AGENT_FDS_MAX (3 + INIT_COMMANDS_MAX)

/* What it tells the VM; ctx is the VM. */
struct agent_ops {
	void (*mark)(void *ctx, enum init_mark mark);
	void (*started)(void *ctx); /* the command runs */
	void (*output)(void *ctx);  /* its first output has come; on a thread of its own */
	/* It is over and all its output is written: with a status and flags, INIT_OOM, ...; text tells more. Once. */
	void (*exited)(void *ctx, unsigned status, unsigned flags, const char *text);
	void (*failed)(void *ctx, const char *text);
	int (*guard)(void *ctx, const struct session_pump *pump, struct err *e); /* see session.h */
	void (*left)(void *ctx); /* the user has typed the keys to leave */
};

/*
 * Lends the guest, by vsock, what it needs to start c's command, starts the command's streams, and listens for
 * `mayfly exec` if c says where. c and vsock are kept. Returns 0 or -errno with e set; agent_free accepts NULL.
 */
int agent_new(struct agent **ret, struct virtio_dev *vsock, const struct config *c, const struct agent_ops *ops,
	      void *ctx, struct err *e);
void agent_free(struct agent *a);

/* What to wait for; returns how many of fds, which has room for AGENT_FDS_MAX. Then what poll(2) said of them. */
unsigned agent_poll_fds(const struct agent *a, struct pollfd *fds);
void agent_serve(struct agent *a, const struct pollfd *fds, unsigned num);

/* How long poll(2) may wait, max_ms at most (-1: for ever). Accepts NULL. */
int agent_timeout(const struct agent *a, int max_ms);

/* For the command: a signal; its terminal has a new size. False: it does not run yet, or any more. */
bool agent_signal(struct agent *a, int signo);
void agent_resize(struct agent *a);

/* Asks the guest to end within ms. False: there is nobody to be asked. */
bool agent_stop(struct agent *a, unsigned ms);

/*
 * At the VM's end, when its ends of the streams are closed: writes what is left of the output. Whether all of it was written
 * that somebody wanted to read.
 */
bool agent_finish(struct agent *a, unsigned timeout_ms);

#endif
