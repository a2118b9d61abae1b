/*
 * What the parts of virtio-vsock share, and nobody else includes: vsock.c (the device: rings and packets), vsock_conn.c (a
 * connection), vsock_flow.c (its data and credit), vsock_unix.c (the host's side: names, listening, the CONNECT line) and
 * vsock_lend.c (sockets of mayfly itself).
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
#define VSOCK_BUF_SIZE 65536U /* of each connection, for a host that does not read: all the credit that the guest has */
#define VSOCK_READ_MAX 262144U /* bytes that one packet to the guest has at most */
#define VSOCK_LINE_MAX 32      /* bytes of a CONNECT line, with its end */
#define VSOCK_TICK_MS 250
#define VSOCK_WAIT_MS 5000	   /* for a client's line, and for the guest's answer to it */
#define VSOCK_REFUSALS_MAX 256	   /* RST packets that wait for room in the guest's queue */
#define VSOCK_BUCKETS 1024U	   /* a power of two */
#define VSOCK_PORT_BASE (1U << 30) /* host ports of connections that the host starts: from here, as many */

enum vsock_conn_state {
	CONN_FREE,
	CONN_LINE,	/* a client of the host that has to send its line: it has no ports yet */
	CONN_REQUESTED, /* the guest has to answer our REQUEST */
	CONN_OPEN,
	CONN_DRAIN, /* the guest has closed and knows that we know; the host is to have what is in the buffer */
	CONN_RESET, /* over, but the guest is to be told, by RST */
	CONN_DEAD,  /* over, but the ring still has polls to end */
};

/* Packets that a connection has to send, besides data. */
enum vsock_due {
	DUE_RST = 1 << 0,
	DUE_REQUEST = 1 << 1,
	DUE_RESPONSE = 1 << 2,
	DUE_SHUTDOWN = 1 << 3,
	DUE_CREDIT_REQUEST = 1 << 4,
	DUE_CREDIT_UPDATE = 1 << 5,
};

/* A poll of a socket: in the ring, or wanted, because the ring had no room. */
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
	unsigned ticks;		      /* until its time is over; 0: it has no limit */

	/* From host to guest. */
	unsigned due;	     /* DUE_* */
	bool readable;	     /* fd may have something to read */
	bool eof;	     /* nothing more comes from there, or is wanted */
	bool asked;	     /* the guest was asked for credit since it had none */
	uint8_t host_shut;   /* VIRTIO_VSOCK_SHUTDOWN_*, as told or to be told to the guest */
	uint32_t tx_cnt;     /* §5.10.6.3: bytes sent to the guest, */
	uint32_t peer_alloc; /* its buffer, */
	uint32_t peer_fwd;   /* and how many of tx_cnt it has taken out of it */

	/* From guest to host. */
	uint8_t guest_shut; /* VIRTIO_VSOCK_SHUTDOWN_*, as told by the guest */
	bool deaf;	    /* the host takes nothing more: data of the guest is dropped */
	bool buf_touched;
	uint32_t buf_head, buf_len; /* what the host has not taken yet */
	uint32_t rx_cnt;	    /* bytes from the guest, */
	uint32_t fwd_cnt, told_fwd; /* how many of them the host has taken, and how many the guest knows of */

	uint8_t line_len;
	char line[VSOCK_LINE_MAX];
};

/* A socket that the guest's next connection from a privileged port to port gets. */
struct vsock_lent {
	uint32_t port;
	int fd;
};

/* An RST for a packet that belongs to no connection. */
struct vsock_refusal {
	uint64_t src_cid;
	uint32_t src_port, dst_port;
	uint16_t type;
};

struct vsock {
	struct virtio_dev dev;
	uint32_t cid;
	bool active;
	bool tx_more; /* the guest may have sent something that was not looked at */
	struct task task;
	unsigned in_flight; /* polls in the ring */
	bool polls_wanted;  /* the ring had no room for some */

	/* The host's side (vsock_unix.c). */
	struct unix_socket name;		  /* without a path: nobody listens */
	int (*connect)(void *ctx, uint32_t port); /* in our place, or NULL */
	void *connect_ctx;
	struct vsock_poll accept;
	bool accept_paused; /* until the next tick: no file descriptor, or no memory, was left */
	uint32_t last_port;

	/* vsock_lend.c */
	unsigned num_lent;
	struct vsock_lent lent[VSOCK_LENT_MAX];

	/* Time: a tick each VSOCK_TICK_MS while somebody waits. */
	struct timer timer;
	unsigned waiting;

	/* Connections. Slots that were used before and are free now are a stack; those from num_touched on are untouched. */
	unsigned num_free, num_touched, num_conns, max_conns;
	uint16_t free[VSOCK_CONNS_MAX];
	struct vsock_conn *conn; /* VSOCK_CONNS_MAX of them, mapped */
	uint8_t *buf;		 /* VSOCK_BUF_SIZE for each, mapped, untouched until needed */
	LIST_HEAD(, vsock_conn) bucket[VSOCK_BUCKETS];
	TAILQ_HEAD(, vsock_conn) ready;	   /* those that may have a packet for the guest, in turn */
	TAILQ_HEAD(, vsock_conn) writable; /* those whose host may take what is in the buffer, in turn */

	unsigned refusal_head, num_refusals;
	struct vsock_refusal refusal[VSOCK_REFUSALS_MAX];
};

/* vsock.c */

/* Lets what can be moved move, both ways, at the end of this turn. Whatever happens on the loop ends with it. */
void vsock_run(struct vsock *v);

/* Queues an RST in answer to h, unless that is one. There is room: a packet of the guest is only taken when there is. */
void vsock_refuse(struct vsock *v, const struct virtio_vsock_hdr *h);

/* Starts, or goes on with, waiting for something that has a limit in time; the reverse. */
void vsock_wait(struct vsock *v);
void vsock_wait_end(struct vsock *v);

/* Arms a poll of fd unless it is armed; when the ring has no room, the task does it. */
void vsock_poll(struct vsock *v, struct vsock_poll *poll, int fd, short events);

/* vsock_conn.c */

/* A connection in state for fd, which it owns from here on; NULL if there are too many, and then fd stays the caller's. */
struct vsock_conn *conn_new(struct vsock *v, enum vsock_conn_state state, int fd);

/* Gives it ports, by which conn_find knows it. */
void conn_name(struct vsock_conn *c, uint32_t host_port, uint32_t guest_port);
struct vsock_conn *conn_find(struct vsock *v, uint32_t host_port, uint32_t guest_port);

/* Its time starts, or starts again; and is over: nothing more is waited for. */
void conn_wait(struct vsock_conn *c);
void conn_wait_end(struct vsock_conn *c);

/* It has packets of these kinds for the guest; 0: perhaps data. */
void conn_due(struct vsock_conn *c, unsigned due);

/* Ends it, without a word to the guest; or with an RST. */
void conn_kill(struct vsock_conn *c);
void conn_reset(struct vsock_conn *c);

/* One tick has passed. */
void conn_tick(struct vsock_conn *c);

/* The credit fields of a packet of the guest. */
void conn_take_credit(struct vsock_conn *c, const struct virtio_vsock_hdr *h);

/* A packet of the guest for this connection; its len is within chain. */
void conn_take(struct vsock_conn *c, const struct virtio_vsock_hdr *h, const struct virtq_chain *chain);

/*
 * The next packet for the guest: fills *h, and the part of chain behind the header, which has room for a byte at least.
 * False: there is none now. The connection is not in the ready list, and puts itself there if it has more.
 */
bool conn_next(struct vsock_conn *c, struct virtio_vsock_hdr *h, const struct virtq_chain *chain);

/* Lets go of what is over as soon as the ring has: of the socket, and if nobody is to be told, of the slot. */
void conn_let_go(struct vsock_conn *c);

static inline bool conn_is_over(const struct vsock_conn *c)
{
	return c->state == CONN_RESET || c->state == CONN_DEAD;
}

static inline uint8_t *vsock_buf(const struct vsock_conn *c)
{
	return c->v->buf + (size_t)(c - c->v->conn) * VSOCK_BUF_SIZE;
}

/* vsock_flow.c */

/* The polls of a connection have ended. */
void flow_in_done(struct op *op, int res);
void flow_out_done(struct op *op, int res);

/* Writes what is in the buffer. Returns how many bytes the host took. */
uint32_t flow_flush(struct vsock_conn *c);

/* Data of the guest: len bytes of chain, behind the header. */
void flow_take(struct vsock_conn *c, uint32_t len, const struct virtq_chain *chain);

/* The buffer is empty: what waited for that. */
void flow_drained(struct vsock_conn *c);

/* How many bytes the guest may be sent. */
uint32_t flow_credit(const struct vsock_conn *c);

/* Reads from the host into chain, behind the header. Returns the bytes, or 0, and then something else may be due. */
uint32_t flow_read(struct vsock_conn *c, const struct virtq_chain *chain);

/*
 * recvmsg(2) and sendmsg(2), which do not block: all data of a connection goes by these two, which the thread's filter has.
 * The first returns as that does; the second how many bytes the socket took, perhaps 0, or -errno.
 */
ssize_t flow_recvmsg(const struct vsock_conn *c, struct iovec *iov, unsigned num, int flags);
ssize_t flow_sendmsg(const struct vsock_conn *c, struct iovec *iov, unsigned num);

/* vsock_unix.c */

/* Makes the listening socket v->name. Returns 0 or -errno with e set; unix_socket_done accepts either. */
int vsock_unix_listen(struct vsock *v, const char *path, struct err *e);

/* Accepts clients from now on, if there is a socket. On the loop. */
void vsock_unix_start(struct vsock *v);

/* Connects to PATH_port. Returns the non-blocking socket or -errno, at once; -ECONNREFUSED without a PATH. */
int vsock_unix_connect(const struct vsock *v, uint32_t port);

/* Reads what a client in CONN_LINE has sent, up to the end of the line and no further. */
void vsock_unix_read_line(struct vsock_conn *c);

/* The guest has accepted: tells the client. False: it cannot be told. */
bool vsock_unix_say_ok(struct vsock_conn *c);

/* Reads "CONNECT <port>" (any case, any blanks, no line end). Returns 0, or -EINVAL and *ret_port untouched. */
int vsock_unix_parse_line(const char *line, size_t len, uint32_t *ret_port);

/* vsock_lend.c */

/*
 * The socket that was lent for port, which is the caller's from here on, for a connection from guest_port. -ENOENT if there
 * is none, -EACCES if that port is not privileged. On the loop.
 */
int vsock_take_lent(struct vsock *v, uint32_t port, uint32_t guest_port);

#endif
