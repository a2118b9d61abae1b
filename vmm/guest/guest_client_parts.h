/* What the files of the client of init share; see guest_client.h. */
#ifndef MF_GUEST_GUEST_CLIENT_PARTS_H
#define MF_GUEST_GUEST_CLIENT_PARTS_H

#include "vmm/base/unix_socket.h"
#include "vmm/guest/control.h"
#include "vmm/guest/guest_client.h"
#include "vmm/guest/guest_run.h"
#include "vmm/guest/init_conn.h"
#include "vmm/guest/init_text.h"
#include "vmm/guest/restored.h"
#include "vmm/guest/stdio_relay.h"
#include "vmm/guest/until.h"

#define GUEST_CLIENT_TEXT_MAX 512

/* Of a pool's member whose guest runs before there is a client (guest_claim.c). */
struct guest_claim {
	bool waits;			   /* for one */
	int fd[STDIO_RELAY_STREAMS];	   /* ends of streams of command 0, the relay's; */
	int others[STDIO_RELAY_STREAMS];   /* and the guest's, to be lent */
	bool tried;			   /* a guest may say hello as often as it likes */
	struct control_client *trial;	   /* the command that is tried first, as that of a client; or NULL */
	int trial_fd[STDIO_RELAY_STREAMS]; /* its streams */
	uint8_t random[INIT_RANDOM_BYTES]; /* for the client's command, which nobody else gets */
};

struct guest_client {
	struct virtio_dev *vsock;
	const struct guest_client_ops *ops;
	void *ctx;
	struct init_conn conn;	  /* to init, once that has connected; until then messages wait in it */
	struct stdio_relay relay; /* of command 0 */
	struct restored restored; /* for init, if the guest is of a snapshot */
	struct guest_claim claim;
	struct unix_socket name; /* the control socket; without a path: there is none */
	bool alone;		 /* there is no command, and no init of ours */
	bool hello, started, exited, told, accept_warned;
	struct control_client *snapper; /* that of `mayfly run --snapshot`, one of client; or NULL */
	struct until until;		/* when its snapshot is due */
	bool hold_sent;			/* it was, and init stops all processes */
	uint64_t accept_after_ms;	/* no client is accepted before; or 0 */
	unsigned status, flags;
	unsigned num_live;		  /* live directories */
	char text[GUEST_CLIENT_TEXT_MAX]; /* printable */
	struct init_text_defaults defaults;
	char *held; /* or NULL: the text of command 0, which a client starts */
	size_t held_len;
	char *payload; /* of clients, INIT_COMMAND_MAX + 1 bytes; NULL without a control socket */
	/* Last, so that a sanitizer sees an index that is out of bounds: the guest sends it. */
	struct control_client client[INIT_COMMANDS_MAX - 1];
};

/* A client that is not connected, and whose number no command has; or NULL. */
struct control_client *guest_client_free_number(struct guest_client *a);

/* Lends the guest the other ends of the streams of c's command, taken over, and asks it to run that. Returns 0 or -errno with e set. */
int guest_client_run(struct guest_client *a, struct control_client *c, int others[STDIO_RELAY_STREAMS],
		     const char *text, size_t len, struct err *e);

/* The same of command 0: others are taken over. Returns 0 or -errno with e set. */
int guest_client_lend_streams(struct guest_client *a, unsigned number, int others[STDIO_RELAY_STREAMS], struct err *e);

/*
 * Of a pool's member that runs (guest_claim.c); if it is none, there is nothing to be done, but to lend the streams. Before there
 * is a filter: guest_claim_init; guest_claim_streams keeps the ends of command 0. guest_claim_hello: init takes commands, and
 * tries one. guest_claim_ended: the command of c has ended, which may be that one.
 */
int guest_claim_init(struct guest_client *a, const struct config *c, struct err *e);
int guest_claim_streams(struct guest_client *a, const int fd[STDIO_RELAY_STREAMS], int others[STDIO_RELAY_STREAMS],
			struct err *e);
void guest_claim_hello(struct guest_client *a);
void guest_claim_ended(struct guest_client *a, const struct control_client *c);

/* Sends init a message without a payload. Returns 0 or -errno. */
int guest_client_send(struct guest_client *a, enum init_msg_type type, unsigned number, uint32_t value);

/*
 * A command that is held (guest_hold.c). guest_hold_init: before there is a filter; returns 0 or -ENOMEM.
 * guest_hold_start and guest_hold_signal answer c, which has asked to start it, or for a signal to it.
 */
int guest_hold_init(struct guest_client *a, const struct config *c);
void guest_hold_start(struct guest_client *a, struct control_client *c);
void guest_hold_signal(struct guest_client *a, struct control_client *c, uint32_t signo);

/*
 * Snapshots for clients (guest_snapshot.c). guest_snapshot_take: c has asked for one, with flags
 * of CONTROL_.... guest_snapshot_held: init has stopped all processes, or says so.
 * guest_snapshot_check: begins the one of a->snapper, if it is due. guest_snapshot_over: if c's
 * stops the VM, that ends, or goes on.
 */
void guest_snapshot_take(struct guest_client *a, struct control_client *c, unsigned flags);
void guest_snapshot_held(struct guest_client *a);
void guest_snapshot_check(struct guest_client *a);
void guest_snapshot_over(const struct guest_client *a, struct control_client *c, bool in_place);

#endif
