/*
 * libFuzzer entry of the state of devices in a snapshot. A device of the kind that the first byte names is restored from
 * the rest, in a section whose frame is valid. If it takes that, it is resumed and used, and what it saves then must
 * restore another one. Guest memory, with the rings, comes from the input, too: its last 64 bytes.
 */
#include "tests/fuzz/drive.h"

#include <linux/virtio_mmio.h>

#include "virtio/mmio.h"
#include "virtio/net.h"
#include "virtio/net_backend.h"
#include "virtio/vsock.h"
#include "vmm/core/state.h"
#include "vmm/platform/ioapic.h"
#include "vmm/platform/serial.h"

#define LINE 5U
#define PINS 8U
#define RINGS 64U

enum kind { KIND_DRIVE, KIND_OVERLAY, KIND_NET, KIND_VSOCK, KIND_SERIAL, KIND_IOAPIC, KINDS };

/* One of them. */
struct object {
	struct virtio_dev *dev;
	struct mmio *m;
	struct serial *serial;
	struct ioapic *ioapic;
};

static uint8_t buf[65536];

/* A backend that sends and receives nothing until it is stopped. */

struct fake {
	struct net_backend b;
	struct net_tx *tx[4];
	unsigned num;
	bool receiving;
};

static void fake_start(struct net_backend *b, uint64_t features)
{
	(void)b;
	(void)features;
}

static bool fake_send(struct net_backend *b, struct net_tx *tx)
{
	struct fake *f = MF_CONTAINER_OF(b, struct fake, b);

	for (unsigned i = 0; i < tx->num - 1; i++)
		FUZZ_CHECK(is_in_ram(tx->iov[1 + i].iov_base, tx->iov[1 + i].iov_len));
	f->tx[f->num++] = tx;
	return true;
}

static bool fake_receive(struct net_backend *b, const struct iovec *iov, unsigned num, uint32_t room)
{
	(void)room;
	for (unsigned i = 0; i < num; i++)
		FUZZ_CHECK(is_in_ram(iov[i].iov_base, iov[i].iov_len));
	MF_CONTAINER_OF(b, struct fake, b)->receiving = true;
	return true;
}

static void fake_stop(struct net_backend *b)
{
	struct fake *f = MF_CONTAINER_OF(b, struct fake, b);

	while (f->num > 0)
		net_sent(b, f->tx[--f->num], -ECANCELED);
	if (f->receiving)
		net_received(b, -ECANCELED);
	f->receiving = false;
}

static void fake_free(struct net_backend *b)
{
	free(MF_CONTAINER_OF(b, struct fake, b));
}

static const struct net_backend_ops fake_ops = {
	.tx_max = 4,
	.start = fake_start,
	.send = fake_send,
	.receive = fake_receive,
	.stop = fake_stop,
	.free = fake_free,
};

static void raise_line(void *ctx, unsigned line)
{
	(void)ctx;
	FUZZ_CHECK(line == LINE);
}

static void raise_serial(void *ctx)
{
	(void)ctx;
}

static int send_msi(void *ctx, uint32_t address, uint32_t data)
{
	(void)ctx;
	(void)data;
	FUZZ_CHECK(address >> 20 == 0xfee);
	return 0;
}

static void wake(void *ctx)
{
	(void)ctx;
}

static void output(void *ctx, const uint8_t *data, size_t len)
{
	(void)ctx;
	(void)data;
	(void)len;
}

static int make_virtio(struct virtio_dev **ret, enum kind kind, struct err *e)
{
	static const struct ratelimit_params limit = { .size = 4096, .refill_ms = 100 };
	static char image[32];
	struct blk_params drive = { .id = "d", .path = image, .any_image = true, .overlay = kind == KIND_OVERLAY };
	struct net_params net = { .id = "n", .mac = { 2 }, .limit[0].bytes = limit };
	struct vsock_params vsock = { .cid = 3 };
	struct fake *fake;

	drive.bandwidth = limit;
	if (kind == KIND_NET) {
		fake = calloc(1, sizeof(*fake));
		fake->b = (struct net_backend){ .ops = &fake_ops, .loop = mock.loop };
		return net_new(ret, &net, &fake->b, mock.loop, &mem, e);
	}
	if (kind == KIND_VSOCK)
		return vsock_new(ret, &vsock, mock.loop, &mem, e);
	if (!image[0]) {
		int fd = memfd_create("image", MFD_CLOEXEC);

		FUZZ_CHECK(fd >= 0 && ftruncate(fd, DRIVE_SECTORS * 512) == 0);
		snprintf(image, sizeof(image), "/proc/self/fd/%d", fd);
	}
	return blk_new(ret, &drive, mock.loop, &mem, e);
}

static void make(struct object *o, enum kind kind)
{
	static const struct serial_ops serial_ops = { .raise = raise_serial };
	static const struct serial_host host = { .wake = wake, .output = output };
	struct mmio_irq irq = { .raise = raise_line, .line = LINE };
	struct err e;

	*o = (struct object){ 0 };
	mock_init();
	mock.check = check_op;
	if (kind == KIND_SERIAL) {
		FUZZ_CHECK(serial_new(&o->serial, mock.loop, &serial_ops, NULL, SERIAL_STALL_MS, &e) == 0);
		serial_set_host(o->serial, &host, NULL);
	} else if (kind == KIND_IOAPIC) {
		FUZZ_CHECK(ioapic_new(&o->ioapic, PINS, send_msi, NULL, &e) == 0);
		FUZZ_CHECK(ioapic_attach_loop(o->ioapic, mock.loop) == 0);
	} else {
		FUZZ_CHECK(make_virtio(&o->dev, kind, &e) == 0);
		FUZZ_CHECK(mmio_new(&o->m, o->dev, NULL, 0xd0000000, irq, &e) == 0);
		mock_take_calls();
	}
}

static void drop(struct object *o)
{
	if (o->m) {
		mmio_reset(o->m);
		FUZZ_CHECK(mock.num == 0);
		mock_run_tasks();
		mmio_free(o->m);
		o->dev->ops->free(o->dev);
	}
	serial_free(o->serial);
	ioapic_free(o->ioapic);
}

static int restore(struct object *o, struct state_in *in, struct err *e)
{
	if (o->m)
		return mmio_restore(o->m, in, e);
	return o->serial ? serial_restore(o->serial, in, e) : ioapic_restore(o->ioapic, in, e);
}

static void save(struct object *o, struct state_out *out)
{
	if (o->m)
		mmio_save(o->m, out);
	else if (o->serial)
		serial_save(o->serial, out);
	else
		ioapic_save(o->ioapic, out);
}

static void resume(struct object *o)
{
	if (o->m)
		mmio_resume(o->m);
	else if (o->serial)
		serial_resume(o->serial);
	else
		ioapic_resume(o->ioapic);
}

/* What a guest and its host may do next; then it comes to rest again. */
static void use(struct object *o)
{
	uint32_t value = 0;

	resume(o);
	mock_poll_watches();
	for (unsigned turn = 0; turn < 8; turn++) {
		mock_do_all();
		mock_time(mock.now_ns + 300000000);
	}
	for (unsigned reg = 0; o->serial && reg < SERIAL_PORTS; reg++)
		serial_access(o->serial, reg, reg & 1, (uint8_t *)&value, 1);
	if (o->ioapic)
		ioapic_raise(o->ioapic, 0);
	if (o->m) {
		mmio_access(o->m, VIRTIO_MMIO_QUEUE_NOTIFY, true, (uint8_t *)&value, 4);
		mmio_access(o->m, VIRTIO_MMIO_CONFIG, false, (uint8_t *)&value, 4);
		for (unsigned i = 0; i < 64 && mmio_quiet(o->m, 0, &(struct err){ 0 }) < 0; i++)
			fuzz_settle();
		FUZZ_CHECK(mmio_quiet(o->m, 0, &(struct err){ 0 }) == 0);
		FUZZ_CHECK(mock.num == 0);
	}
	mock_run_tasks();
}

/* Of the devices' section there are two versions. */
static void put_payload(struct state_out *out, enum kind kind, const uint8_t *payload, size_t len)
{
	static const uint32_t tags[] = {
		[KIND_SERIAL] = STATE_TAG('u', 'a', 'r', 't'), [KIND_IOAPIC] = STATE_TAG('i', 'o', 'a', 'p')
	};

	if (kind < KIND_SERIAL)
		state_begin(out, STATE_TAG('v', 'i', 'o', ' '), LINE, 1 + len % 2);
	else
		state_begin(out, tags[kind], 0, 1);
	state_put_bytes(out, payload, len);
	state_end(out);
}

static void open_state(struct state_in *in, struct state_out *out)
{
	int64_t len = state_out_finish(out);

	FUZZ_CHECK(len > 0 && state_in_init(in, buf, (size_t)len, &(struct err){ 0 }) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = { data, size };
	enum kind kind = input_u8(&input) % KINDS;
	size_t rings = input.left > RINGS ? RINGS : 0;
	struct state_out out;
	struct state_in in;
	struct object o;
	struct err e;

	if (input.left > 4096)
		return 0;
	log_setup(LOG_LEVEL_ERROR, -1);
	FUZZ_CHECK(mem.map || mem_init(&mem, MIB, &e) == 0);
	memset(mem_at(&mem, 0, DATA), 0, DATA);
	memcpy(mem_at(&mem, AVAIL, RINGS), data + size - rings, rings);
	for (unsigned i = 0; i < 8; i++) /* of some use for each kind */
		put_desc(DESC + 16 * i, DATA + 0x1000 * i, 0x1000, i & 1 ? 0 : VRING_DESC_F_WRITE, 0);
	state_out_init(&out, buf, sizeof(buf));
	put_payload(&out, kind, input.at, input.left - rings);
	open_state(&in, &out);
	make(&o, kind);
	if (restore(&o, &in, &e) < 0) {
		FUZZ_CHECK(e.text[0]);
		drop(&o);
		return 0;
	}
	use(&o);
	state_out_init(&out, buf, sizeof(buf));
	save(&o, &out);
	drop(&o);
	open_state(&in, &out);
	make(&o, kind);
	FUZZ_CHECK(restore(&o, &in, &e) == 0);
	use(&o);
	drop(&o);
	return 0;
}
