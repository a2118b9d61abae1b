/*
 * A tap as backend of a network interface.
 *
 * The tap is in IFF_VNET_HDR mode with virtio's own header of 12 bytes. A frame and its header go
 * between the guest's buffers and the kernel in one writev or readv, without a copy of ours, and
 * the host's network stack does what the driver has negotiated (checksums, segmentation). An
 * outgoing header is a copy that net_check.c has checked; an incoming one is the kernel's.
 *
 * The fd is non-blocking. The loop's thread reads and writes it at once (LOOP_ACCESS_PROMPT), until
 * the kernel has no frame or no room; then the loop polls. Where there are more taps than the
 * loop has such files, the ring does the same. The kernel cuts a frame that does not fit, without an error; a
 * byte of ours behind the guest's buffers shows it.
 *
 * While the tap is down, writes end with EIO and nothing is read. Once it is deleted or taken
 * away, everything ends with EBADFD, and a read that waits then with EFAULT.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "virtio/net_backend.h"
#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/fdstore.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define TAP_TX_MAX 64U
#define TAP_LONE_MAX 4096 /* bytes of a frame that need not be one of many */

/* Since Linux 6.2. */
#define TAP_F_USO4 0x20U
#define TAP_F_USO6 0x40U

struct tap {
	struct net_backend b;
	int fd, file;
	struct op rx_op;
	bool receiving;
	bool polled;	  /* the read follows a poll */
	bool eager;	  /* more frames are likely to be there: the next read comes before a poll */
	uint64_t rx_turn; /* of the loop, when the last frame came */
	bool stopping;	  /* nothing is started again: nobody would cancel it */
	unsigned rx_num;  /* of rx_iov */
	uint8_t overflow;
	struct net_tx *sending[TAP_TX_MAX]; /* in no order */
	unsigned num_sending;
	struct iovec rx_iov[NET_RX_IOV_MAX + 1];
};

static struct tap *to_tap(struct net_backend *b)
{
	return MF_CONTAINER_OF(b, struct tap, b);
}

static bool tap_is_lost(int res)
{
	return res == -EBADFD || res == -ENODEV;
}

static void tap_tx_done(struct op *op, int res);

/* There is room for the frame, or an error that the write reports. */
static void tap_tx_ready(struct op *op, int res)
{
	struct net_tx *tx = MF_CONTAINER_OF(op, struct net_tx, op);
	struct tap *t = to_tap(tx->backend);

	op->done = tap_tx_done;
	if (t->stopping)
		res = -ECANCELED;
	if (res < 0 || !loop_writev(t->b.loop, op, t->file, tx->iov, tx->num, LOOP_NO_OFFSET))
		tap_tx_done(op, res < 0 ? res : -EBUSY);
}

static void tap_tx_done(struct op *op, int res)
{
	struct net_tx *tx = MF_CONTAINER_OF(op, struct net_tx, op);
	struct net_backend *b = tx->backend;
	struct tap *t = to_tap(b);
	unsigned i = 0;

	if (res == -EAGAIN && !t->stopping) {
		op->done = tap_tx_ready;
		if (loop_poll(b->loop, op, t->file, POLLOUT))
			return;
	}
	b->in_flight--;
	while (t->sending[i] != tx)
		i++;
	t->sending[i] = t->sending[--t->num_sending];
	net_sent(b, tx, tap_is_lost(res) ? NET_LOST : MF_MIN(res, 0));
}

static bool tap_send(struct net_backend *b, struct net_tx *tx)
{
	struct tap *t = to_tap(b);

	tx->op.done = tap_tx_done;
	tx->backend = b;
	tx->iov[0] = (struct iovec){ .iov_base = &tx->header, .iov_len = sizeof(tx->header) };
	if (!loop_writev(b->loop, &tx->op, t->file, tx->iov, tx->num, LOOP_NO_OFFSET))
		return false;
	t->sending[t->num_sending++] = tx;
	b->in_flight++;
	return true;
}

static void tap_rx_done(struct op *op, int res);

/* There is a frame, or an error that the read reports. */
static void tap_rx_ready(struct op *op, int res)
{
	struct tap *t = MF_CONTAINER_OF(op, struct tap, rx_op);

	op->done = tap_rx_done;
	t->polled = true;
	if (t->stopping)
		res = -ECANCELED;
	if (res < 0 || !loop_readv(t->b.loop, op, t->file, t->rx_iov, t->rx_num, LOOP_NO_OFFSET))
		tap_rx_done(op, res < 0 ? res : -EBUSY);
}

/*
 * A lone frame costs a poll and a read, not a read in vain besides. A frame that is longer than a
 * packet of a network, comes right after another one, or was read without a poll, is not alone.
 */
static void tap_rx_judge(struct tap *t, int res)
{
	uint64_t turn = loop_this_turn(t->b.loop);

	t->eager = res > TAP_LONE_MAX || !t->polled || turn - t->rx_turn <= 1;
	t->rx_turn = turn;
}

static void tap_rx_done(struct op *op, int res)
{
	struct tap *t = MF_CONTAINER_OF(op, struct tap, rx_op);

	if (res == -EAGAIN && !t->stopping) { /* the kernel does not wait for a frame */
		op->done = tap_rx_ready;
		if (loop_poll(t->b.loop, op, t->file, POLLIN))
			return;
	}
	t->b.in_flight--;
	t->receiving = false;
	tap_rx_judge(t, res);
	net_received(&t->b, tap_is_lost(res) || res == -EFAULT ? NET_LOST : res);
}

static bool tap_receive(struct net_backend *b, const struct iovec *iov, unsigned num, uint32_t room)
{
	struct tap *t = to_tap(b);

	(void)room; /* the overflow byte comes after it */
	memcpy(t->rx_iov, iov, num * sizeof(*iov));
	t->rx_iov[num] = (struct iovec){ .iov_base = &t->overflow, .iov_len = sizeof(t->overflow) };
	t->rx_num = num + 1;
	t->rx_op.done = t->eager ? tap_rx_done : tap_rx_ready;
	t->polled = false;
	if (t->eager ? !loop_readv(b->loop, &t->rx_op, t->file, t->rx_iov, t->rx_num, LOOP_NO_OFFSET) :
		       !loop_poll(b->loop, &t->rx_op, t->file, POLLIN))
		return false;
	t->receiving = true;
	b->in_flight++;
	return true;
}

static void tap_start(struct net_backend *b, uint64_t features)
{
	static const struct {
		unsigned feature, flag;
	} offloads[] = {
		{ VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4 },   { VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6 },
		{ VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN }, { NET_F_GUEST_USO4, TAP_F_USO4 },
		{ NET_F_GUEST_USO6, TAP_F_USO6 },
	};
	unsigned flags = 0;

	to_tap(b)->stopping = false;
	to_tap(b)->eager = true;
	/* §5.1.3.1: all need GUEST_CSUM. The kernel takes both kinds of USO, or none. */
	if (features & 1ULL << VIRTIO_NET_F_GUEST_CSUM) {
		flags = TUN_F_CSUM;
		for (size_t i = 0; i < MF_ARRAY_SIZE(offloads); i++)
			if (features >> offloads[i].feature & 1)
				flags |= offloads[i].flag;
		if ((flags & (TAP_F_USO4 | TAP_F_USO6)) != (TAP_F_USO4 | TAP_F_USO6))
			flags &= ~(TAP_F_USO4 | TAP_F_USO6);
	}
	if (ioctl(to_tap(b)->fd, TUNSETOFFLOAD, flags) < 0)
		log_warn("tap: set its offloads: %s; continuing, the next frame shows whether it is there",
			 strerror(errno));
}

static void tap_stop(struct net_backend *b)
{
	struct tap *t = to_tap(b);

	t->stopping = true;
	if (t->receiving)
		loop_cancel(b->loop, &t->rx_op);
	for (unsigned i = 0; i < t->num_sending; i++)
		loop_cancel(b->loop, &t->sending[i]->op);
	loop_drain(b->loop, &b->in_flight);
}

static void tap_free(struct net_backend *b)
{
	struct tap *t = to_tap(b);

	if (t->fd >= 0)
		close(t->fd);
	free(t);
}

static const struct net_backend_ops tap_ops = {
	.tx_max = TAP_TX_MAX,
	.start = tap_start,
	.send = tap_send,
	.receive = tap_receive,
	.stop = tap_stop,
	.free = tap_free,
};

/* Offloads that the kernel has in both directions. tap_start switches them on. */
static uint64_t tap_offered(int fd)
{
	const unsigned tso = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
	uint64_t offered = 0;

	if (ioctl(fd, TUNSETOFFLOAD, tso) == 0)
		offered |= 1ULL << VIRTIO_NET_F_CSUM | 1ULL << VIRTIO_NET_F_HOST_TSO4 | 1ULL << VIRTIO_NET_F_HOST_TSO6 |
			   1ULL << VIRTIO_NET_F_HOST_ECN | 1ULL << VIRTIO_NET_F_GUEST_CSUM |
			   1ULL << VIRTIO_NET_F_GUEST_TSO4 | 1ULL << VIRTIO_NET_F_GUEST_TSO6 |
			   1ULL << VIRTIO_NET_F_GUEST_ECN;
	if (offered && ioctl(fd, TUNSETOFFLOAD, tso | TAP_F_USO4 | TAP_F_USO6) == 0)
		offered |= 1ULL << NET_F_HOST_USO | 1ULL << NET_F_GUEST_USO4 | 1ULL << NET_F_GUEST_USO6;
	(void)ioctl(fd, TUNSETOFFLOAD, 0); /* it cannot fail if the others worked */
	return offered;
}

/* Makes a backend on fd, a tap, which it owns, even on failure. */
static int tap_new(struct net_backend **ret, int fd, struct loop *loop, struct err *e)
{
	struct tap *t = calloc(1, sizeof(*t));
	int header_len = NET_HEADER_LEN, flags;

	if (!t) {
		close(fd);
		return err_set(e, -ENOMEM, "out of memory");
	}
	*t = (struct tap){ .b = { .ops = &tap_ops, .loop = loop }, .fd = fd };
	/*
	 * Prompt files are non-blocking. So is a tap that the ring reads: before Linux 6.4, tun does
	 * not announce non-blocking reads, and on a blocking file each frame would cost 128 attempts
	 * and then a worker thread.
	 */
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ||
	    ioctl(fd, TUNSETVNETHDRSZ, &header_len) < 0) {
		err_sys(e, "set it up");
		tap_free(&t->b);
		return e->code;
	}
	t->b.offered = tap_offered(fd);
	t->file = loop_add_file(loop, fd);
	if (t->file < 0) {
		err_set(e, t->file, "its loop has too many files");
		tap_free(&t->b);
		return e->code;
	}
	loop_set_access(loop, t->file, LOOP_ACCESS_PROMPT);
	*ret = &t->b;
	return 0;
}

/* A new tap is down; sets it up. */
static void tap_set_up(const char *name)
{
	MF_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq req = { .ifr_flags = 0 };

	strncpy(req.ifr_name, name, sizeof(req.ifr_name) - 1);
	if (fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &req) == 0) {
		req.ifr_flags |= IFF_UP;
		if (ioctl(fd, SIOCSIFFLAGS, &req) == 0)
			return;
	}
	log_warn("tap '%s': set it up: %s; continuing with it down", name, strerror(errno));
}

static int tap_explain(const char *name, bool existed, int code, struct err *e)
{
	if (code == -EPERM && !existed)
		return err_set(e, code,
			       "there is no tap '%s', and making one needs CAP_NET_ADMIN: 'ip tuntap add dev %s mode tap "
			       "user $USER' as root makes it for this user",
			       name, name);
	if (code == -EPERM)
		return err_set(e, code, "tap '%s' belongs to another user", name);
	if (code == -EBUSY)
		return err_set(e, code, "tap '%s' is in use by another VM or interface", name);
	if (code == -EINVAL)
		return err_set(e, code, "'%s' is not a tap, or one with several queues, which mayfly does not use",
			       name);
	return err_neg(e, code, "tap '%s'", name);
}

int net_tap_attach(const char *name, struct err *e)
{
	struct ifreq req = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	unsigned tries = 0;
	bool existed;
	MF_CLOSE int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return err_sys(e, "open '/dev/net/tun'%s", errno == ENOENT ? " (is the module tun loaded?)" : "");
	strncpy(req.ifr_name, name, sizeof(req.ifr_name) - 1);
	for (;;) {
		existed = if_nametoindex(name);
		if (ioctl(fd, TUNSETIFF, &req) == 0)
			break;
		if (errno != EBUSY || !fdio_linger(&tries))
			return tap_explain(name, existed, -errno, e);
	}
	if (!existed)
		tap_set_up(name);
	return mf_take_fd(&fd);
}

int net_tap_provide(const char *name, struct err *e)
{
	int fd = net_tap_attach(name, e);

	return fd < 0 ? fd : fdstore_provide(name, FILES_TAP, fd, e);
}

int net_tap_open(struct net_backend **ret, const char *name, struct loop *loop, struct err *e)
{
	int fd = fdstore_take(name, FILES_TAP);

	if (fd < 0)
		fd = net_tap_attach(name, e);
	if (fd < 0)
		return fd;
	return tap_new(ret, fd, loop, e) < 0 ? err_wrap(e, "tap '%s'", name) : 0;
}

static bool is_stream_socket(int fd)
{
	struct stat st;
	socklen_t len = sizeof(int);
	int type = 0;

	return fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode) && getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 &&
	       type == SOCK_STREAM;
}

int net_fd_check(int fd, const char *what, const char *tap, struct err *e)
{
	const short needed = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	struct ifreq req = { .ifr_flags = 0 };

	if (!tap && is_stream_socket(fd))
		return 0;
	if (ioctl(fd, TUNGETIFF, &req) < 0)
		return errno == EBADF ? err_set(e, -EBADF, "%s is not open", what) :
		       tap	      ? err_set(e, -EINVAL, "%s is no tap", what) :
					err_set(e, -EINVAL, "%s is neither a tap nor a stream socket", what);
	if ((req.ifr_flags & needed) != needed)
		return err_set(e, -EINVAL, "%s is a tap opened without IFF_TAP | IFF_NO_PI | IFF_VNET_HDR", what);
	if (tap && strncmp(req.ifr_name, tap, sizeof(req.ifr_name)) != 0)
		return err_set(e, -EINVAL, "%s is the tap '%.*s', and not '%s'", what, IFNAMSIZ, req.ifr_name, tap);
	return 0;
}

int net_fd_open(struct net_backend **ret, int fd, struct loop *loop, struct err *e)
{
	char what[16];

	snprintf(what, sizeof(what), "fd %d", fd);
	if (net_fd_check(fd, what, NULL, e) < 0) {
		if (e->code != -EBADF)
			close(fd);
		return e->code;
	}
	return is_stream_socket(fd) ? net_passt_open(ret, fd, NULL, loop, e) : tap_new(ret, fd, loop, e);
}
