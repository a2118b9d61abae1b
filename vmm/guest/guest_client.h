/*
 * The monitor's client of init in the guest (loader/init/): the command that the VM was
 * started for, and those that `mayfly exec` adds. All of it runs on the main thread.
 */
#ifndef MF_GUEST_GUEST_CLIENT_H
#define MF_GUEST_GUEST_CLIENT_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loader/init/proto.h"
#include "vmm/config/exec.h"
#include "vmm/guest/control.h"

struct guest_client;
struct config;
struct err;
struct stdio_relay_thread;
struct unix_socket;
struct virtio_dev;

/* The listener, the guest, the relay's eventfd, a client for each other command, and the streams of guest_client_exec. */
#define GUEST_CLIENT_FDS_MAX (3 + INIT_COMMANDS_MAX + 3 * EXEC_AT_ONCE)

/* The memories of a VM that others share (vmm/snapshot/fork.h), which stay the VM's, and how long it was paused for that. */
struct guest_fork {
	int memory[CONTROL_LAYERS_MAX];
	unsigned num;
	uint64_t pause_ns;
};

/* Its events; ctx is the VM. */
struct guest_client_ops {
	void (*mark)(void *ctx, enum init_mark mark);
	void (*started)(void *ctx); /* the command runs */
	void (*output)(void *ctx);  /* its first output has arrived; called on a relay thread */
	/* Called once, when it has ended and all output is written. flags: INIT_OOM, ... */
	void (*exited)(void *ctx, unsigned status, unsigned flags, const char *text);
	void (*failed)(void *ctx, const char *text);
	int (*guard)(void *ctx, const struct stdio_relay_thread *thread, struct err *e); /* see stdio_relay.h */
	void (*foreground)(void *ctx); /* the terminal is ours again: set its mode */
	void (*left)(void *ctx);       /* the user has typed the keys to leave */
	/* Writes what is known of the VM, as an object of JSON. Returns the descriptor of its configuration, or -1. */
	int (*info)(void *ctx, char *text, size_t size);
	/* Begins a snapshot into files (control.h), which stay the caller's. guest_client_snapshot_done follows. */
	int (*snapshot)(void *ctx, const int *files, unsigned num, unsigned flags, struct err *e);
	/*
	 * One with CONTROL_FORK, which is over at its end: fills in ret. `memory` of files may be kept, and is -1 then. Returns 0; or -errno
	 * with e set, and the VM goes on, unless it is lost.
	 */
	int (*fork)(void *ctx, int *files, unsigned num, unsigned flags, struct guest_fork *ret, struct err *e);
	/* One with stop: the client has it in its place, and the VM ends; or the client has left, and the VM goes on. */
	void (*snapshot_over)(void *ctx, bool in_place);
	void (*ran)(void *ctx, int fd, const struct exec_result *result); /* of guest_client_exec; takes fd over */
	void (*snapper_left)(void *ctx); /* the client of CONTROL_LATER has gone: the VM ends */
	void (*warm)(void *ctx);	 /* of a pool's member that runs: it takes a command now */
};

/*
 * Without a command in c, vsock is not used: there is the control socket alone. With one:
 * lends the vsock device the sockets of c's command, starts the command's streams, and
 * listens for `mayfly exec` if c has a control socket. snapshot_fd: the connection of a client
 * that has come before, or -1; it is taken over. Keeps c and vsock. Returns 0 or -errno with e
 * set. guest_client_free accepts NULL.
 */
int guest_client_new(struct guest_client **ret, struct virtio_dev *vsock, const struct config *c, int snapshot_fd,
		     const struct guest_client_ops *ops, void *ctx, struct err *e);
void guest_client_free(struct guest_client *a);

/* Fills in what to poll, at most GUEST_CLIENT_FDS_MAX, and returns how many; then serves what poll(2) reports. */
unsigned guest_client_poll_fds(const struct guest_client *a, struct pollfd *fds);
void guest_client_serve(struct guest_client *a, const struct pollfd *fds, unsigned num);

/* Reads along what the guest prints on its console. Returns whether the main loop has to look. On the io loop. */
bool guest_client_scan(struct guest_client *a, const void *data, size_t len);

/* The snapshot is written, after a pause of the guest; or not, because of e. */
void guest_client_snapshot_done(struct guest_client *a, uint64_t pause_ns, const struct err *e);

/*
 * A member of a pool that runs (config->pool_runs) is a client's now: the process has its streams, and c its command. The guest
 * gets the clock and random numbers, and then the command. control: of `mayfly exec`, or without a descriptor; moved. Returns 0
 * or -errno with e set: there is no such command. guest_client_claim_fds: which descriptor becomes a copy of which for a terminal.
 */
int guest_client_claim(struct guest_client *a, const struct config *c, struct unix_socket *control, struct err *e);
void guest_client_claim_fds(const struct guest_client *a, int *ret_from, int *ret_to);

/* How long poll(2) may wait, max_ms at most (-1: no limit). Accepts NULL. */
int guest_client_timeout(const struct guest_client *a, int max_ms);

/* Sends the command a signal, or its terminal's new size. False: the command does not run. */
bool guest_client_signal(struct guest_client *a, int signo);
void guest_client_resize(struct guest_client *a);

/*
 * Runs a command for a client whose connection is fd, if c->api was set: ops->ran follows, from guest_client_serve. If the client
 * hangs up before, the command gets SIGHUP; at the end of the VM, fd is closed. fd is taken over, and request copied. Returns 0;
 * or -errno with e set, and fd stays the caller's.
 */
int guest_client_exec(struct guest_client *a, int fd, const struct exec_request *request, struct err *e);

/* Whether a snapshot can hold the commands that run. Returns 0 or -EBUSY with e set. */
int guest_client_check_snapshot(const struct guest_client *a, struct err *e);

/* Asks the guest to end within ms, its processes by a signal, 0: SIGTERM. False: init is not there. */
bool guest_client_stop(struct guest_client *a, int signo, unsigned ms);

/*
 * At the VM's end, after the guest's ends of the streams are closed: waits until the rest
 * of the output is written. Returns whether everything was written that had a reader.
 */
bool guest_client_finish(struct guest_client *a, unsigned timeout_ms);

#endif
