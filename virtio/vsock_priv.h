/*
 * What the parts of virtio-vsock share; no other file includes it. A part calls only parts that
 * stand below it here (tests/style/layers checks that):
 *
 *   vsock.c        the device: its queues and its task
 *   vsock_accept.c programs of the host that connect
 *   vsock_conn.c   a connection: its states, its packets from and to the guest
 *   vsock_flow.c   the data of a connection, and its credit
 *   vsock_unix.c   the host's Unix sockets: names, CONNECT lines, bytes in and out
 *   vsock_lend.c   sockets that mayfly lends for a port
 *   vsock_save.c   a snapshot, and the event by which the guest learns of its restore
 *   vsock_sched.c  what happens when: the task, the lists, refusals, polls, ticks
 */
#ifndef MF_VIRTIO_VSOCK_PRIV_H
#define MF_VIRTIO_VSOCK_PRIV_H

#include <linux/virtio_vsock.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "virtio/device.h"
#include "virtio/vsock.h"
#include "vmm/base/unix_socket.h"
#include "vmm/core/loop.h"
#include "vmm/core/timer.h"

#define VSOCK_HOST_CID 2U
#define VSOCK_SHUT_RCV VIRTIO_VSOCK_SHUTDOWN_RCV
#define VSOCK_SHUT_SEND VIRTIO_VSOCK_SHUTDOWN_SEND
#define VSOCK_SHUT_BOTH (VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND)
/*
 * The buffer of a connection, and the guest's credit: Linux's largest packet of 64 KiB, and a page. With
 * 64 KiB alone, one small message would cut every large packet after it into two.
 */
#define VSOCK_BUF_SIZE 69632U
#define VSOCK_READ_MAX 262144U /* bytes of data for the guest in one recvmsg */
#define VSOCK_BATCH_MAX 32U    /* buffers of the guest for one recvmsg */
#define VSOCK_HELD_MAX 32U     /* used buffers of tx for which an interrupt is held back, */
#define VSOCK_HELD_NS 1000000U /* and for how long */
#define VSOCK_LINE_MAX 32      /* bytes of a CONNECT line, with its newline */
#define VSOCK_TICK_MS 250
#define VSOCK_WAIT_MS 5000     /* limit for a client's line, and for the guest's answer */
#define VSOCK_REFUSALS_MAX 256 /* RST packets that wait for room in the guest's queue: then tx waits, too */
/* And those that a restore adds: one for each connection of the source that the guest may not know to be open. */
#define VSOCK_REFUSALS_ALL (VSOCK_REFUSALS_MAX + VSOCK_CONNS_MAX)
#define VSOCK_BUCKETS 1024U	   /* a power of two */
#define VSOCK_PORT_BASE (1U << 30) /* host ports of clients: from here, as many */

enum vsock_conn_state {
	CONN_FREE,
	CONN_LINE,	/* a client that has not sent its line yet; the connection has no ports */
	CONN_REQUESTED, /* REQUEST sent or due; the guest has not answered */
	CONN_OPEN,
	CONN_DRAIN, /* the guest has closed both ways; the host still gets the buffer's contents */
	CONN_RESET, /* over; an RST for the guest is due */
	CONN_DEAD,  /* over; polls are still in flight */
};

/* Control packets that a connection owes the guest. */
enum vsock_due {
	DUE_RST = 1 << 0,
	DUE_REQUEST = 1 << 1,
	DUE_RESPONSE = 1 << 2,
	DUE_SHUTDOWN = 1 << 3,
	DUE_CREDIT_REQUEST = 1 << 4,
	DUE_CREDIT_UPDATE = 1 << 5,
};

/* What a flow function found, any of these bits. The connection decides what follows. */
enum vsock_flow {
	FLOW_OK = 0,
	FLOW_UPDATE = 1 << 0,	 /* the guest needs to know of credit that it got back */
	FLOW_NO_CREDIT = 1 << 1, /* data for the guest waits for credit; reported once */
	FLOW_DRAINED = 1 << 2,	 /* the buffer is empty */
	FLOW_EOF = 1 << 3,	 /* the host has ended its stream */
	FLOW_DEAF = 1 << 4,	 /* the host reads no more (EPIPE) */
	FLOW_BAD = 1 << 5,	 /* the guest exceeded its credit, or the socket failed */
};

/* A poll of a socket: in flight (armed), or deferred because the ring was full (wanted). */
struct vsock_poll {
	struct op op;
	short events;
	bool armed, wanted;
};

struct vsock;

struct vsock_conn {
	struct vsock *v;
	struct vsock_poll in, out;
	LIST_ENTRY(vsock_conn) in_bucket;
	TAILQ_ENTRY(vsock_conn) in_ready, in_writable;
	enum vsock_conn_state state;
	int fd;
	uint32_t host_port, guest_port;
	bool hashed, ready, writable; /* in these lists */
	bool heard;		      /* the guest has sent a packet for it, beside its REQUEST */
	unsigned ticks;		      /* left until it is reset; 0: no limit */

	/* From host to guest. */
	unsigned due;	     /* DUE_* */
	bool readable;	     /* fd may have something to read */
	bool eof;	     /* fd is not read any more: it has ended, or the guest wants no more */
	bool asked;	     /* a credit request was sent or is due, since credit ran out */
	uint8_t host_shut;   /* VSOCK_SHUT_* flags of our SHUTDOWN, sent or due */
	uint8_t batch;	     /* buffers for the next read; 0 is 1 */
	uint32_t tx_cnt;     /* §5.10.6.3: bytes sent to the guest, */
	uint32_t peer_alloc; /* the size of its buffer, */
	uint32_t peer_fwd;   /* and how many of tx_cnt it has taken out of it */

	/* From guest to host. */
	uint8_t guest_shut; /* VSOCK_SHUT_* flags of the guest's SHUTDOWN packets */
	bool deaf;	    /* the host reads no more: the guest's data is dropped */
	bool buf_touched;
	uint32_t buf_head, buf_len; /* what the host has not taken yet */
	uint32_t rx_cnt;	    /* bytes from the guest, */
	uint32_t fwd_cnt;	    /* how many of them the host has taken, */
	uint32_t told_fwd;	    /* and the fwd_cnt of the last packet to the guest */

	uint8_t line_len;
	char line[VSOCK_LINE_MAX];
};

/* A socket for the guest's next connection from a privileged port to this port. */
struct vsock_lent {
	uint32_t port;
	int fd;
};

/* An RST that answers a packet without a connection. */
struct vsock_refusal {
	uint64_t src_cid;
	uint32_t src_port, dst_port;
	uint16_t type;
};

/* Buffers of the guest for packets, each with room for a header and at least a byte. */
struct vsock_rx {
	unsigned num, filled;	       /* buffers; with how many of them something happened */
	uint32_t len[VSOCK_BATCH_MAX]; /* bytes of data in each of the latter */
	struct virtq_chain chain[VSOCK_BATCH_MAX];
};

struct vsock {
	struct virtio_dev dev;
	uint32_t cid;
	bool active;
	bool tx_more;	    /* tx may hold packets that were not looked at */
	struct task task;   /* moves packets and data; vsock_wake defers it */
	unsigned tx_held;   /* used buffers of tx without an interrupt yet */
	struct timer held;  /* set while there are any */
	unsigned in_flight; /* polls */
	bool polls_wanted;  /* the ring was full: some polls wait for the task */

	/* The host's side. */
	struct unix_socket name;		  /* no path: the device does not listen */
	int (*connect)(void *ctx, uint32_t port); /* see struct vsock_params */
	void *connect_ctx;
	int reserved_fd; /* or -1: the number that name.fd gets, which a filter knows already */
	struct vsock_poll accept;
	bool accept_paused; /* until the next tick: descriptors or memory ran out */
	uint32_t last_port; /* the host port of the newest client */

	/* vsock_lend.c */
	unsigned num_lent;
	struct vsock_lent lent[VSOCK_LENT_MAX];

	/* vsock_save.c: the guest has to learn that its connections are gone. */
	enum { TRANSPORT_KNOWN, TRANSPORT_RESET_DUE, TRANSPORT_RESET_SENT } transport;
	unsigned event_bufs; /* that the guest had given, beside the one that the event is in */
	unsigned event_ticks;

	/* A tick every VSOCK_TICK_MS, while anything waits. */
	struct timer timer;
	unsigned waiting;

	/* Free slots that were used before are a stack; those from num_touched on are untouched. */
	unsigned num_free, num_touched, num_conns, max_conns;
	uint16_t free[VSOCK_CONNS_MAX];
	struct vsock_conn *conn; /* VSOCK_CONNS_MAX of them, mapped */
	uint8_t *buf;		 /* VSOCK_BUF_SIZE for each, mapped */
	LIST_HEAD(, vsock_conn) bucket[VSOCK_BUCKETS];
	TAILQ_HEAD(, vsock_conn) ready;	   /* may have a packet for the guest */
	TAILQ_HEAD(, vsock_conn) writable; /* the host may take bytes of the buffer */

	unsigned refusal_head, num_refusals;
	struct vsock_refusal refusal[VSOCK_REFUSALS_ALL];

	struct vsock_rx rx; /* of run_rx; large, and touched as far as it is used */
};

static inline uint8_t *vsock_buf(const struct vsock_conn *c)
{
	return c->v->buf + (size_t)(c - c->v->conn) * VSOCK_BUF_SIZE;
}

/* vsock_accept.c */

/* later: the path comes by vsock_listen. Returns 0 or -errno. */
int vsock_accept_init(struct vsock *v, bool later);

/* Waits for a client, if the device listens; again after a pause. */
void vsock_accept_start(struct vsock *v);

/* vsock_conn.c */

/* The connection between these ports, or NULL. */
struct vsock_conn *conn_find(struct vsock *v, uint32_t host_port, uint32_t guest_port);

/* The guest's REQUEST h: connects to the host's port, or refuses. */
void conn_request(struct vsock *v, const struct virtio_vsock_hdr *h);

/* A client of the host has connected. Owns fd. */
void conn_accept(struct vsock *v, int fd);

/* A packet of the guest for this connection; h->len is within chain. */
void conn_take(struct vsock_conn *c, const struct virtio_vsock_hdr *h, const struct virtq_chain *chain);

/*
 * How many buffers the connection's next packets may fill: 1 to VSOCK_BATCH_MAX, and no more than it
 * takes to hold *ret_room bytes of data.
 */
unsigned conn_batch(const struct vsock_conn *c, uint32_t *ret_room);

/*
 * The next packets for the guest: a control packet for the first buffer of rx, or data in
 * rx->filled buffers behind their headers. Fills *h, the header of all of them but for len, and
 * returns true; or false when there is none. The connection is not in the ready list; it enters
 * the list again if it has more.
 */
bool conn_next(struct vsock_conn *c, struct virtio_vsock_hdr *h, struct vsock_rx *rx);

/* Writes what is in the buffer. Returns how many bytes the host took. */
uint32_t conn_flush(struct vsock_conn *c);

/* Ends the connection without a packet to the guest. */
void conn_kill(struct vsock_conn *c);

/* One tick has passed. */
void conn_tick(struct vsock_conn *c);

/* vsock_flow.c. Results are bits of enum vsock_flow. */

/* Writes what is in the buffer to the host. */
unsigned flow_flush(struct vsock_conn *c);

/* Data of the guest: len bytes of chain, behind the header. */
unsigned flow_take(struct vsock_conn *c, uint32_t len, const struct virtq_chain *chain);

/* Reads from the host into the buffers of rx, behind their headers; rx->filled may be 0. */
unsigned flow_read(struct vsock_conn *c, struct vsock_rx *rx);

/* How many bytes may be sent to the guest. */
uint32_t flow_credit(const struct vsock_conn *c);

/* vsock_unix.c. Nothing here blocks. */

/* Makes the listening socket v->name. Returns 0 or -errno with e set. */
int vsock_unix_listen(struct vsock *v, const char *path, struct err *e);

/* The next client's socket. -EAGAIN: there is none; -EMFILE: descriptors or memory ran out. */
int vsock_unix_accept(const struct vsock *v);

/* Connects to PATH_port. Returns the socket or -errno; -ECONNREFUSED without a PATH. */
int vsock_unix_connect(const struct vsock *v, uint32_t port);

/*
 * Reads what a client in CONN_LINE has sent, up to the end of its line. Returns 1 and the port
 * of a complete line; 0 if a poll waits for the rest of it; or -errno.
 */
int vsock_unix_read_line(struct vsock_conn *c, uint32_t *ret_port);

/* Tells the client that the guest has accepted. Returns whether that worked. */
bool vsock_unix_say_ok(struct vsock_conn *c);

/* Parses "CONNECT <port>" without its newline (any case, any blanks). Returns 0 or -EINVAL. */
int vsock_unix_parse_line(const char *line, size_t len, uint32_t *ret_port);

/*
 * The only two calls that move a connection's bytes: recvmsg(2) and sendmsg(2), as the thread's
 * filter has them. vsock_unix_recv returns what recvmsg does, vsock_unix_send the bytes that the
 * socket took, perhaps 0, or -errno.
 */
ssize_t vsock_unix_recv(const struct vsock_conn *c, struct iovec *iov, unsigned num, int flags);
ssize_t vsock_unix_send(const struct vsock_conn *c, struct iovec *iov, unsigned num);

/* vsock_lend.c */

/*
 * The socket that was lent for port, for a connection from guest_port; the caller owns it. Or
 * -ENOENT: none was lent; -EACCES: guest_port is not privileged. On the loop.
 */
int vsock_take_lent(struct vsock *v, uint32_t port, uint32_t guest_port);

/* vsock_save.c */

/* See device.h. */
void vsock_save(struct virtio_dev *dev, struct state_out *out);
void vsock_restore(struct virtio_dev *dev, struct state_in *in);
void vsock_resume(struct virtio_dev *dev);

/*
 * Whether the guest may get packets. If not, it has yet to learn that its connections are gone: tells
 * it, if it has given a buffer for that.
 */
bool vsock_tell_reset(struct vsock *v);

/* The guest's REQUEST h is of a new connection: an RST of a restore must not end that. */
void vsock_forget_refusals(struct vsock *v, const struct virtio_vsock_hdr *h);

/* A tick has passed: the guest is not waited for indefinitely. */
void vsock_reset_tick(struct vsock *v);

/* It need not learn of it any more. */
void vsock_reset_over(struct vsock *v);

/* vsock_sched.c */

/* Defers the device's task to the end of this turn of the loop. */
void vsock_wake(struct vsock *v);

/* Puts the connection into the list, if it is not there. */
void vsock_ready(struct vsock_conn *c);
void vsock_writable(struct vsock_conn *c);

/* Removes the first connection of the list and returns it; NULL: the list is empty. */
struct vsock_conn *vsock_next_ready(struct vsock *v);
struct vsock_conn *vsock_next_writable(struct vsock *v);

/* Removes the connection from both lists. */
void vsock_unlist(struct vsock_conn *c);

/*
 * Queues an RST in answer to h, unless h is an RST itself. There is room: a packet is only taken
 * from the guest when there is. vsock_add_refusal queues any RST; there is room for VSOCK_REFUSALS_ALL.
 * vsock_next_refusal takes the first RST of the queue.
 */
void vsock_refuse(struct vsock *v, const struct virtio_vsock_hdr *h);
void vsock_add_refusal(struct vsock *v, const struct vsock_refusal *r);
bool vsock_next_refusal(struct vsock *v, struct virtio_vsock_hdr *h);

/*
 * Polls fd, unless the poll is in flight already. When the ring is full, the task tries again:
 * it calls vsock_retry_polls.
 */
void vsock_poll(struct vsock *v, struct vsock_poll *poll, int fd, short events);
void vsock_retry_polls(struct vsock *v);

/* First in the poll's op.done. */
void vsock_poll_ended(struct vsock *v, struct vsock_poll *poll);
void vsock_poll_cancel(struct vsock *v, struct vsock_poll *poll);

/* Ticks run between the first vsock_wait and the last vsock_wait_end; a tick sets the next one. */
void vsock_wait(struct vsock *v);
void vsock_wait_end(struct vsock *v);
void vsock_set_tick(struct vsock *v);

#endif
