/* A drive in a snapshot: it comes to rest, and another drive goes on where it was. */
#include "tests/unit/blk_fixture.h"
#include "tests/unit/state_fixture.h"

#include "virtio/blk_priv.h"

#define F_FLUSH (1ULL << VIRTIO_BLK_F_FLUSH)

/* Where the fields of a drive are in its part of the section. */
enum {
	AT_RO,
	AT_SYNC_FAILED,
	AT_LOST,
	AT_LAYER,
	AT_SECTORS,
	AT_INODE = 12,
	AT_MTIME = 28,
	AT_BYTES = 44,
	AT_TOKENS = 68,
	AT_DEBT = 76,
};

static void pause_queue(struct fix *f, bool paused)
{
	f->dev->vq[0].paused = paused;
}

static int quiet(struct fix *f)
{
	return f->dev->ops->quiet(f->dev);
}

static void saved(struct fix *f)
{
	f->dev->ops->save(f->dev, state_begin_part());
	state_end_part();
}

/* A new drive takes the place of f->dev, as the transport makes it for a restore: with its queue where it was. */
static void replace(struct fix *f, struct blk_params params, const char **ret_why)
{
	struct virtq was = f->dev->vq[0];
	uint64_t features = f->dev->features;
	struct state_in *in;
	const char *why = "";
	struct err e;

	f->dev->ops->reset(f->dev);
	f->dev->ops->free(f->dev);
	params.id = "root";
	params.path = params.path ? params.path : f->path;
	if (blk_new(&f->dev, &params, mock.loop, &f->d.mem, &e) < 0)
		fail_msg("%s", e.text);
	mock_take_calls();
	f->dev->features = features;
	f->dev->vq[0] = drv_queue(&f->d);
	assert_int_equal(virtq_start(&f->dev->vq[0], &f->d.mem, false, true, &why), 0);
	assert_int_equal(f->dev->ops->activate(f->dev), 0);
	f->dev->vq[0].next_avail = f->dev->vq[0].next_used = was.next_used;
	in = state_open_part();
	f->dev->ops->restore(f->dev, in);
	*ret_why = in->why ? in->why : state_close(in, &e) < 0 ? "length" : NULL;
}

static void restored(struct fix *f, struct blk_params params)
{
	const char *why;

	replace(f, params, &why);
	if (why)
		fail_msg("%s", why);
}

/* Requests under way end; others stay in the ring, and a restored drive takes them. */
static void test_requests(void **state)
{
	struct fix *f = *state;

	request(f, 0, VIRTIO_BLK_T_IN, 1, 512);
	request(f, 1, VIRTIO_BLK_T_OUT, 2, 512);
	kick(f);
	pause_queue(f, true);
	assert_int_equal(quiet(f), 1);
	request(f, 2, VIRTIO_BLK_T_IN, 3, 512);
	kick(f);
	assert_int_equal(mock.num, 2);
	mock_do(1);
	assert_int_equal(quiet(f), 1);
	mock_do(0);
	assert_int_equal(quiet(f), 0);
	assert_int_equal(drv_used_idx(&f->d), 2);
	mock_run_tasks();
	assert_int_equal(mock.num, 0);
	assert_int_equal(drv_used_idx(&f->d), 2);
	saved(f);
	restored(f, (struct blk_params){ .any_image = true });
	kick(f);
	mock_do_all();
	assert_used(f, 2, 2, 513, VIRTIO_BLK_S_OK);
	assert_int_equal(*data(f, 2), 4);
}

/* A request that waits for room in the ring is under way, and so is one between two steps. */
static void test_waiting_requests(void **state)
{
	struct fix *f = *state;

	request(f, 0, VIRTIO_BLK_T_IN, 0, 1024);
	kick(f);
	mock.bytes_max = 512;
	mock.room = 0;
	pause_queue(f, true);
	mock_do(0);
	assert_int_equal(mock.num, 0);
	assert_int_equal(quiet(f), 1);
	mock_run_tasks();
	assert_int_equal(quiet(f), 1);
	mock.room = MOCK_IO_MAX;
	mock_run_tasks();
	assert_int_equal(quiet(f), 1);
	mock_do_all();
	assert_int_equal(quiet(f), 0);
	assert_used(f, 0, 0, 1025, VIRTIO_BLK_S_OK);
}

#define LIMIT                                                                                                          \
	{                                                                                                              \
		.bandwidth = { .size = 1024, .refill_ms = 1000 }, .any_image = true                                    \
	}

/* The tokens that are left, and the debt, go with the snapshot; the time of the snapshot brings no more. */
static void test_limits(void **state)
{
	struct fix *f = *state;
	const struct ratelimit_params bytes = { .size = 1024, .refill_ms = 1000 };
	uint64_t ns = 1000000000;

	mock_time(ns);
	blk_set_limits(f->dev, &bytes, NULL);
	for (unsigned i = 0; i < 3; i++)
		request(f, i, VIRTIO_BLK_T_IN, i, 512);
	kick(f);
	mock_do_all();
	assert_int_equal(drv_used_idx(&f->d), 2); /* the third waits, in the ring */
	mock_time(ns + 250000000);
	pause_queue(f, true);
	assert_int_equal(quiet(f), 0);
	saved(f);
	mock_time(ns * 3600);
	restored(f, (struct blk_params)LIMIT);
	kick(f);
	assert_int_equal(mock.num, 0);
	mock_time(ns * 3600 + 240000000);
	assert_int_equal(mock.num, 0);
	mock_time(ns * 3600 + 260000000);
	assert_int_equal(mock.num, 1);
	mock_do_all();
	assert_used(f, 2, 2, 513, VIRTIO_BLK_S_OK);
	/* With another limit it begins full. */
	restored(f, (struct blk_params){ .bandwidth = { .size = 512, .refill_ms = 1000 }, .any_image = true });
	request(f, 3, VIRTIO_BLK_T_IN, 3, 512);
	kick(f);
	assert_int_equal(mock.num, 1);
	mock_do_all();
}

/* Data of the guest is lost: a snapshot does not change that. */
static void test_lost_data(void **state)
{
	struct fix *f = *state;

	mock.fsync_err = EIO;
	request(f, 0, VIRTIO_BLK_T_FLUSH, 0, 0);
	kick(f);
	mock_do_all();
	assert_used(f, 0, 0, 1, VIRTIO_BLK_S_IOERR);
	mock.fsync_err = 0;
	saved(f);
	restored(f, (struct blk_params){ .any_image = true });
	request(f, 1, VIRTIO_BLK_T_FLUSH, 0, 0);
	kick(f);
	mock_do_all();
	assert_used(f, 1, 1, 1, VIRTIO_BLK_S_IOERR);
}

/* The image must be the one of the snapshot, unless the user has named another, whose size the guest learns. */
static void test_identity(void **state)
{
	struct fix *f = *state;
	char other[64];
	const char *why;
	struct stat st;

	saved(f);
	restored(f, (struct blk_params){ 0 });
	assert_int_equal(config_calls, 0);
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(chmod(f->path, st.st_mode ^ 1), 0); /* another ctime */
	replace(f, (struct blk_params){ 0 }, &why);
	assert_non_null(strstr(why, "image"));
	assert_int_equal(blk_identify(f->dev), 0);
	saved(f); /* as it is now */
	restored(f, (struct blk_params){ 0 });
	make_image(other, 512 * 128);
	replace(f, (struct blk_params){ .path = other }, &why);
	assert_non_null(strstr(why, "image"));
	assert_int_equal(config_calls, 0);
	restored(f, (struct blk_params){ .path = other, .any_image = true });
	assert_int_equal(config_calls, 1);
	unlink(other);
}

static void test_hostile(void **state)
{
	static const struct {
		unsigned at;
		uint64_t value;
		unsigned bytes;
		const char *names;
	} changes[] = {
		{ AT_RO, 1, 1, "read-only" },
		{ AT_RO, 2, 1, "read-only" },
		{ AT_SYNC_FAILED, 2, 1, "sync" },
		{ AT_LOST, 0xff, 1, "lost" },
		{ AT_LAYER, 1, 1, "layer" },
		{ AT_LAYER, 2, 1, "layer" },
		{ AT_INODE, 0, 8, "image" },
		{ AT_MTIME, 0, 8, "image" },
		{ AT_TOKENS, 1025, 8, "tokens" },
		{ AT_DEBT, 1, 8, "tokens" },
		{ AT_DEBT + 8, 1000000000, 8, "fraction" },
	};
	struct fix *f = *state;
	const struct ratelimit_params bytes = { .size = 1024, .refill_ms = 1000 };

	blk_set_limits(f->dev, &bytes, NULL);
	saved(f);
	for (unsigned i = 0; i < MF_ARRAY_SIZE(changes); i++) {
		uint8_t good[128];
		const char *why;

		memcpy(good, payload, sizeof(good));
		payload_put(changes[i].at, changes[i].value, changes[i].bytes);
		replace(f, (struct blk_params){ .bandwidth = bytes }, &why);
		if (!why || !strstr(why, changes[i].names))
			fail_msg("'%s' does not name '%s'", why ? why : "nothing", changes[i].names);
		memcpy(payload, good, sizeof(good));
	}
	restored(f, (struct blk_params){ .bandwidth = bytes });
}

static int setup_overlay(void **state)
{
	return setup_params(state, (struct blk_params){ .overlay = true }, SECTORS * 512, UINT64_MAX);
}

static void write_sector(struct fix *f, unsigned i, uint64_t sector, uint8_t byte)
{
	memset(data(f, i), byte, 512);
	request(f, i, VIRTIO_BLK_T_OUT, sector, 512);
	kick(f);
	mock_do_all();
	assert_int_equal(status_of(f, i), VIRTIO_BLK_S_OK);
}

static void assert_sectors(struct fix *f, unsigned i, uint64_t sector, unsigned num, const uint8_t *bytes)
{
	memset(data(f, i), 0xcc, num * 512UL);
	request(f, i, VIRTIO_BLK_T_IN, sector, num * 512);
	kick(f);
	mock_do_all();
	assert_int_equal(status_of(f, i), VIRTIO_BLK_S_OK);
	for (unsigned k = 0; k < num; k++) {
		assert_int_equal(data(f, i)[512 * k], bytes[k]);
		assert_int_equal(data(f, i)[512 * k + 511], bytes[k]);
	}
}

/* A clone reads its own layer, then the snapshot's, then the image; the snapshot's file stays as it was. */
static void test_layers(void **state)
{
	struct fix *f = *state;
	char layer[] = "/tmp/mayfly-test-layer-XXXXXX";
	int fd = mkstemp(layer);
	struct blk_params clone = { .overlay = true, .base = layer };
	uint8_t before[SECTORS * 512], after[sizeof(before)];
	const char *why;
	struct err e;

	assert_false(blk_has_layer(f->dev));
	saved(f);
	restored(f, (struct blk_params){ .overlay = true });
	write_sector(f, 0, 3, 0xa3);
	write_sector(f, 1, 4, 0xa4);
	assert_int_equal(quiet(f), 0);
	assert_true(blk_has_layer(f->dev));
	if (blk_write_layer(f->dev, fd, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(pread(fd, before, sizeof(before), 0), sizeof(before));
	saved(f);
	replace(f, (struct blk_params){ .overlay = true }, &why);
	assert_non_null(strstr(why, "layer"));
	for (unsigned i = 0; i < 2; i++) {
		unsigned n = 2 + 3 * i;

		restored(f, clone);
		assert_sectors(f, n, 2, 4, (const uint8_t[]){ 3, 0xa3, 0xa4, 6 });
		write_sector(f, n + 1, 4, 0xb4);
		assert_sectors(f, n + 2, 2, 4, (const uint8_t[]){ 3, 0xa3, 0xb4, 6 });
	}
	/* The clone's own snapshot has both. */
	assert_int_equal(pread(fd, after, sizeof(after), 0), sizeof(after));
	assert_memory_equal(before, after, sizeof(before));
	close(fd);
	unlink(layer);
	fd = open(layer, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_int_equal(blk_write_layer(f->dev, fd, &e), 0);
	saved(f);
	restored(f, clone);
	assert_sectors(f, 8, 2, 4, (const uint8_t[]){ 3, 0xa3, 0xb4, 6 });
	close(fd);
	unlink(layer);
}

#define T_OVERLAY(fn) cmocka_unit_test_setup_teardown(fn, setup_overlay, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		/* clang-format off */
		T(test_requests),
		T(test_waiting_requests),
		T(test_limits),
		T(test_lost_data),
		T(test_identity),
		T(test_hostile),
		T_OVERLAY(test_layers),
		/* clang-format on */
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
