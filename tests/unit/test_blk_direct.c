/*
 * Direct I/O. The mock's host wants whole units of what statx says, or the tests make it so: a file on some file systems
 * is content with 512 bytes, on others with 4096; the requests are made for either.
 */
#include <sys/ioctl.h>

#include "tests/unit/blk_fixture.h"

#include "virtio/blk_priv.h"

#define UNITS 32U /* of 4096 bytes */
#define IMAGE_SECTORS (UNITS * 8)

static int setup_unit(void **state, uint32_t unit, uint32_t mem)
{
	struct fix *f;
	struct blk *b;
	int r = setup_params(state, (struct blk_params){ .direct = true }, IMAGE_SECTORS * 512, UINT64_MAX);

	if (r < 0)
		return r;
	f = *state;
	b = to_blk(f->dev);
	assert_true(fcntl(b->image.fd, F_GETFL) & O_DIRECT);
	b->image.dio_offset = unit;
	b->image.dio_mem = mem;
	/* The mock transfers piece by piece, which real direct I/O would refuse. */
	assert_int_equal(fcntl(b->image.fd, F_SETFL, fcntl(b->image.fd, F_GETFL) & ~O_DIRECT), 0);
	return 0;
}

static int setup_512(void **state)
{
	return setup_unit(state, 512, 512);
}

static int setup_4096(void **state)
{
	return setup_unit(state, 4096, 4);
}

/* All that reaches the host is of whole units, at addresses that it likes. */
static void assert_aligned(const struct fix *f)
{
	const struct image *image = &to_blk(f->dev)->image;

	for (unsigned i = 0; i < mock.num; i++) {
		const struct mock_io *io = &mock.io[i];
		uint64_t total = 0;

		for (unsigned k = 0; k < io->num; k++) {
			const struct iovec *iov = &io->iov[k];

			assert_int_equal((uintptr_t)iov->iov_base % image->dio_mem, 0);
			assert_int_equal(iov->iov_len % image->dio_offset, 0);
			total += iov->iov_len;
		}
		assert_int_equal(io->offset % image->dio_offset, 0);
		assert_true(io->offset + total <= IMAGE_SECTORS * 512);
	}
}

static void finish(struct fix *f)
{
	for (unsigned i = 0; i < 10000000 && mock.num; i++) {
		assert_aligned(f);
		mock_do(0);
	}
	assert_int_equal(mock.num, 0);
	assert_true(STAILQ_EMPTY(&to_blk(f->dev)->waiting));
}

static void test_aligned_goes_straight(void **state)
{
	struct fix *f = *state;

	request(f, 0, VIRTIO_BLK_T_IN, 8, 4096);
	request(f, 1, VIRTIO_BLK_T_OUT, 16, 4096);
	kick(f);
	assert_int_equal(mock.num, 2);
	assert_ptr_equal(mock.io[0].iov[0].iov_base, data(f, 0));
	assert_ptr_equal(mock.io[1].iov[0].iov_base, data(f, 1));
	finish(f);
}

/* Requests of odd sizes, places and addresses, several at once, against a copy of the image. */
static void test_against_a_model(void **state)
{
	static uint8_t model[IMAGE_SECTORS * 512];
	static uint8_t image[IMAGE_SECTORS * 512];
	struct fix *f = *state;
	int fd = open(f->path, O_RDONLY);

	assert_int_equal(pread(fd, model, sizeof(model), 0), sizeof(model));
	srandom(11);
	for (unsigned round = 0; round < 400; round++) {
		unsigned odd = (unsigned)random() % 3 * 37, part = 1 + (unsigned)random() % 700;
		bool out = random() % 2;

		f->dev->ops->reset(f->dev);
		activate(f, 1ULL << VIRTIO_BLK_F_FLUSH);
		mock.bytes_max = random() % 3 ? 0 : to_blk(f->dev)->image.dio_offset * (1 + (unsigned)random() % 3);
		/* Four at once, in a quarter of the image each; the second descriptor takes the rest of a request. */
		for (unsigned i = 0; i < 4; i++) {
			uint32_t num = 1 + (uint32_t)random() % 16,
				 sector = (uint32_t)random() % (IMAGE_SECTORS / 4 - num);
			uint64_t gpa = 0x40000 + 0x8000 * i + odd;
			uint32_t first = MF_MIN(part, num * 512 - 1);
			unsigned write = out ? 0 : WRITE;

			sector += i * (IMAGE_SECTORS / 4);
			put_header(f, i, out ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, sector);
			drv_desc(&f->d, 4 * i, HEADER(i), 16, NEXT, 4 * i + 1);
			drv_desc(&f->d, 4 * i + 1, gpa, first, NEXT | write, 4 * i + 2);
			drv_desc(&f->d, 4 * i + 2, gpa + first, num * 512 - first, NEXT | write, 4 * i + 3);
			drv_desc(&f->d, 4 * i + 3, STATUS(i), 1, WRITE, 0);
			if (out) {
				memset(drv_at(&f->d, gpa, num * 512), (int)(round + i), num * 512);
				memset(model + sector * 512, (int)(round + i), num * 512);
			}
			drv_publish(&f->d, (uint16_t)(4 * i));
			if (!out && i == 3) { /* look at the last one */
				kick(f);
				finish(f);
				assert_memory_equal(drv_at(&f->d, gpa, num * 512), model + sector * 512, num * 512);
			}
		}
		kick(f);
		finish(f);
		for (unsigned i = 0; i < 4; i++)
			assert_int_equal(status_of(f, i), VIRTIO_BLK_S_OK);
		assert_int_equal(drv_used_idx(&f->d), 4);
		assert_int_equal(pread(fd, image, sizeof(image), 0), sizeof(image));
		assert_memory_equal(image, model, sizeof(model));
	}
	mock.bytes_max = 0;
	close(fd);
}

/* Two writes into one unit: neither may undo the other, in whatever order the host is. */
static void test_parts_of_one_unit(void **state)
{
	struct fix *f = *state;

	for (unsigned i = 0; i < 8; i++) {
		memset(data(f, i), 0x50 + (int)i, 512);
		request(f, i, VIRTIO_BLK_T_OUT, 8 + i, 512);
	}
	kick(f);
	assert_int_equal(mock.num, 1);
	finish(f);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(status_of(f, i), VIRTIO_BLK_S_OK);
		assert_int_equal(image_byte(f, (8 + i) * 512), 0x50 + i);
	}
	assert_int_equal(image_byte(f, 8 * 512 - 1), 8);
	assert_int_equal(image_byte(f, 16 * 512), 17);
}

/* Errors at each stage give the buffer to the next. */
static void test_errors_pass_the_buffer_on(void **state)
{
	struct fix *f = *state;

	for (unsigned i = 0; i < 4; i++)
		request(f, i, i % 2 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, 1, 512);
	kick(f);
	mock_complete(0, -EIO); /* 0, a read */
	mock_complete(0, -EIO); /* 1, the read of a write */
	mock_do(0);		/* 2 */
	mock_do(0);		/* 3, its read */
	mock_complete(0, -ENOSPC);
	assert_used(f, 0, 0, 0, VIRTIO_BLK_S_IOERR);
	assert_used(f, 1, 1, 1, VIRTIO_BLK_S_IOERR);
	assert_used(f, 2, 2, 513, VIRTIO_BLK_S_OK);
	assert_used(f, 3, 3, 1, VIRTIO_BLK_S_IOERR);
	/* Without progress, it stops trying. */
	request(f, 4, VIRTIO_BLK_T_OUT, 1, 512);
	request(f, 5, VIRTIO_BLK_T_IN, 1, 512);
	kick(f);
	for (unsigned i = 0; i < 1000 && status_of(f, 4) == NOT_WRITTEN; i++)
		mock_complete(0, mock.num && i % 2 ? -EAGAIN : -EINTR);
	assert_int_equal(status_of(f, 4), VIRTIO_BLK_S_IOERR);
	finish(f);
	assert_int_equal(status_of(f, 5), VIRTIO_BLK_S_OK);
	/* In steps so small that none is of a unit. */
	request(f, 6, VIRTIO_BLK_T_OUT, 1, 512);
	request(f, 7, VIRTIO_BLK_T_IN, 1, 512);
	kick(f);
	mock.bytes_max = 100;
	finish(f);
	mock.bytes_max = 0;
	assert_int_equal(status_of(f, 6), VIRTIO_BLK_S_IOERR);
	assert_int_equal(status_of(f, 7), VIRTIO_BLK_S_IOERR);
	assert_int_equal(image_byte(f, 512), 2);
}

static void test_reset(void **state)
{
	struct fix *f = *state;

	for (unsigned k = 0; k < 3; k++) {
		for (unsigned i = 0; i < 4; i++)
			request(f, i, VIRTIO_BLK_T_OUT, 1, 512);
		kick(f);
		if (k == 1)
			mock_do(0);
		if (k == 2) {
			mock.room = 0;
			mock_do(0);
		}
		f->dev->ops->reset(f->dev);
		mock.room = MOCK_IO_MAX;
		activate(f, 1ULL << VIRTIO_BLK_F_FLUSH);
	}
	request(f, 0, VIRTIO_BLK_T_IN, 1, 512);
	kick(f);
	finish(f);
	assert_used(f, 0, 0, 513, VIRTIO_BLK_S_OK);
}

/* From slot 0 or another. */
static void test_reset_frees_the_buffer(void **state)
{
	struct fix *f = *state;

	for (unsigned owner = 0; owner < 2; owner++) {
		for (unsigned i = 0; i < owner; i++)
			request(f, i, VIRTIO_BLK_T_IN, 8 * i, 4096); /* straight */
		request(f, owner, VIRTIO_BLK_T_OUT, 1, 512);
		kick(f);
		f->dev->ops->reset(f->dev);
		activate(f, 1ULL << VIRTIO_BLK_F_FLUSH);
		request(f, 0, VIRTIO_BLK_T_IN, 17, 512);
		kick(f);
		finish(f);
		assert_used(f, 0, 0, 513, VIRTIO_BLK_S_OK);
		assert_int_equal(data(f, 0)[0], 18);
		f->dev->ops->reset(f->dev);
		activate(f, 1ULL << VIRTIO_BLK_F_FLUSH);
	}
}

static void test_ring_full(void **state)
{
	struct fix *f = *state;

	mock.room = 0;
	for (unsigned i = 0; i < 4; i++) {
		memset(data(f, i), 0x60 + (int)i, 512);
		request(f, i, VIRTIO_BLK_T_OUT, 1 + i, 512);
	}
	kick(f);
	mock_run_tasks();
	assert_int_equal(mock.num, 0);
	for (unsigned i = 0; i < 100 && drv_used_idx(&f->d) < 4; i++) {
		mock.room = i % 3 ? 0 : 1;
		mock_run_tasks();
		if (mock.num)
			mock_do(0);
	}
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(status_of(f, i), VIRTIO_BLK_S_OK);
		assert_int_equal(image_byte(f, (1 + i) * 512), 0x60 + i);
	}
}

/* A write that found the ring full and went back to its queue has left nothing to whoever gets its slot. */
static void test_ring_full_forgets(void **state)
{
	struct fix *f = *state;

	memset(data(f, 0), 0x77, 4096);
	mock.room = 0;
	put_header(f, 0, VIRTIO_BLK_T_OUT, 8);
	drv_desc(&f->d, 0, HEADER(0), 16, NEXT, 1);
	drv_desc(&f->d, 1, DATA(0) + 1, 4096, NEXT, 2); /* whole units, at an odd address */
	drv_desc(&f->d, 2, STATUS(0), 1, WRITE, 0);
	drv_publish(&f->d, 0);
	kick(f);
	mock.room = MOCK_IO_MAX;
	/* The driver has made another request of it: a read of one sector. */
	put_header(f, 0, VIRTIO_BLK_T_IN, 3);
	drv_desc(&f->d, 1, DATA(0) + 1, 512, NEXT | WRITE, 2);
	mock_run_tasks();
	assert_int_equal(mock.num, 1);
	assert_int_equal(mock.io[0].kind, OP_READ);
	finish(f);
	assert_int_equal(status_of(f, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(data(f, 0)[1], 4);
	assert_int_equal(data(f, 0)[513], 0x77);
	assert_int_equal(image_byte(f, 8 * 512), 9);
}

static void put_trim(struct fix *f, unsigned i, uint32_t type, uint64_t sector, uint32_t num)
{
	struct virtio_blk_discard_write_zeroes range = { .sector = sector, .num_sectors = num };

	memcpy(data(f, i), &range, sizeof(range));
	request(f, i, type, 0, sizeof(range));
	drv_desc(&f->d, 3 * i + 1, DATA(i), sizeof(range), NEXT, 3 * i + 2);
}

/* A write to a part of a unit, and others to its other sectors: none undoes another, whichever the host does first. */
static void test_others_of_one_unit(void **state)
{
	struct fix *f = *state;

	for (unsigned order = 0; order < 32; order++) {
		bool part_first = order & 1, zeroes = order & 2;

		f->dev->ops->reset(f->dev);
		activate(f, 1ULL << VIRTIO_BLK_F_FLUSH);
		memset(data(f, 2), 0x31, 4096); /* what the unit has at first */
		request(f, 2, VIRTIO_BLK_T_OUT, 8, 4096);
		kick(f);
		finish(f);
		memset(data(f, 0), 0x32, 512);
		memset(data(f, 1), 0x33, 4096);
		for (unsigned k = 0; k < 2; k++) {
			if ((k == 0) == part_first)
				request(f, 0, VIRTIO_BLK_T_OUT, 8, 512);
			else if (zeroes)
				put_trim(f, 1, VIRTIO_BLK_T_WRITE_ZEROES, 9, 7);
			else
				request(f, 1, VIRTIO_BLK_T_OUT, 8, 4096); /* the driver writes to sector 8 twice */
		}
		kick(f);
		for (unsigned k = 2; mock.num; k++) /* the first or the last of those in flight */
			mock_do(order >> MF_MIN(k, 4U) & 1 ? mock.num - 1 : 0);
		assert_int_equal(status_of(f, 0), VIRTIO_BLK_S_OK);
		assert_int_equal(status_of(f, 1), VIRTIO_BLK_S_OK);
		assert_int_equal(image_byte(f, 9 * 512), zeroes ? 0 : 0x33);
		assert_int_equal(image_byte(f, 15 * 512), zeroes ? 0 : 0x33);
		if (zeroes)
			assert_int_equal(image_byte(f, 8 * 512), 0x32);
		assert_int_equal(drv_used_idx(&f->d), 3);
	}
}

/* Requests for the units beside it do not wait. */
static void test_neighbours_do_not_wait(void **state)
{
	struct fix *f = *state;

	request(f, 0, VIRTIO_BLK_T_OUT, 9, 512);
	request(f, 1, VIRTIO_BLK_T_OUT, 0, 4096);
	request(f, 2, VIRTIO_BLK_T_OUT, 16, 4096);
	request(f, 3, VIRTIO_BLK_T_IN, 8, 4096);
	kick(f);
	assert_int_equal(mock.num, 4);
	finish(f);
	/* And it does not wait for them. */
	request(f, 4, VIRTIO_BLK_T_OUT, 0, 4096);
	request(f, 5, VIRTIO_BLK_T_OUT, 16, 4096);
	request(f, 6, VIRTIO_BLK_T_OUT, 9, 512);
	kick(f);
	assert_int_equal(mock.num, 3);
	finish(f);
}

/* Between the read and the write of its units, a request that finds the ring full keeps the buffer. */
static void test_ring_full_between_read_and_write(void **state)
{
	struct fix *f = *state;

	request(f, 0, VIRTIO_BLK_T_OUT, 9, 512);
	kick(f);
	mock.room = 0;
	mock_do(0);
	mock.room = MOCK_IO_MAX;
	mock_run_tasks();
	assert_int_equal(mock.io[0].kind, OP_WRITE);
	finish(f);
	assert_int_equal(status_of(f, 0), VIRTIO_BLK_S_OK);
}

/* The rest of several requests needs the buffer, and finds the ring full. */
static void test_ring_full_under_way(void **state)
{
	struct fix *f = *state;

	for (unsigned i = 0; i < 4; i++)
		request(f, i, VIRTIO_BLK_T_IN, 8 * i, 4096);
	kick(f);
	assert_int_equal(mock.num, 4);
	mock.room = 0;
	for (unsigned i = 0; i < 4; i++)
		mock_complete(0, 512);
	assert_int_equal(mock.num, 0);
	mock.room = MOCK_IO_MAX;
	mock_run_tasks();
	finish(f);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(status_of(f, i), VIRTIO_BLK_S_OK);
		assert_int_equal(data(f, i)[4095], 8 * i + 8);
	}
}

/* The host wants more than it said. */
static void test_einval(void **state)
{
	struct fix *f = *state;

	request(f, 0, VIRTIO_BLK_T_IN, 8, 4096);
	kick(f);
	mock_complete(0, -EINVAL);
	assert_int_equal(mock.num, 1);
	assert_ptr_not_equal(mock.io[0].iov[0].iov_base, data(f, 0)); /* but a buffer of ours */
	finish(f);
	assert_used(f, 0, 0, 4097, VIRTIO_BLK_S_OK);
	assert_int_equal(data(f, 0)[0], 9);
	request(f, 1, VIRTIO_BLK_T_IN, 8, 4096);
	kick(f);
	mock_complete(0, -EINVAL);
	mock_complete(0, -EINVAL);
	assert_used(f, 1, 1, 0, VIRTIO_BLK_S_IOERR);
}

/* The same of a request that is longer than a step. */
static void test_einval_of_a_part(void **state)
{
	enum { PIECES = 6, PIECE = 192 * 1024 };
	static uint8_t written[PIECES * PIECE];
	struct fix *f = *state;
	int fd = open(f->path, O_RDONLY | O_CLOEXEC);

	assert_int_equal(truncate(f->path, sizeof(written)), 0);
	to_blk(f->dev)->image.sectors = sizeof(written) / 512;
	for (unsigned i = 0; i < PIECE / 512; i++)
		memset(drv_at(&f->d, 0x80000 + 512 * i, 512), (int)i % 251, 512);
	put_header(f, 0, VIRTIO_BLK_T_OUT, 0);
	drv_desc(&f->d, 0, HEADER(0), 16, NEXT, 1);
	for (unsigned i = 1; i <= PIECES; i++)
		drv_desc(&f->d, (uint16_t)i, 0x80000, PIECE, NEXT, (uint16_t)(i + 1));
	drv_desc(&f->d, PIECES + 1, STATUS(0), 1, WRITE, 0);
	drv_publish(&f->d, 0);
	kick(f);
	assert_int_equal(mock.io[0].kind, OP_WRITE);
	mock_complete(0, -EAGAIN);
	assert_int_equal(mock.io[0].kind, OP_WRITE);
	mock_complete(0, -EINVAL);
	for (unsigned i = 0; i < 100 && status_of(f, 0) == NOT_WRITTEN; i++) {
		if (mock.num)
			mock_do(0);
		else
			mock_run_tasks();
	}
	assert_int_equal(status_of(f, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(pread(fd, written, sizeof(written), 0), sizeof(written));
	for (unsigned i = 0; i < PIECES; i++)
		assert_memory_equal(written + i * PIECE, drv_at(&f->d, 0x80000, PIECE), PIECE);
	close(fd);
}

/* A file cut short while running: reads fail, and so does a write to the unit that was cut; others make it longer again. */
static void test_truncated(void **state)
{
	struct fix *f = *state;

	assert_int_equal(truncate(f->path, 4096 + 512), 0);
	for (unsigned i = 0; i < 4; i++)
		request(f, i, i < 2 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT, i % 2 ? 17 : 9, 512);
	memset(data(f, 3), 0x77, 512);
	kick(f);
	mock_do_all();
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(status_of(f, i), VIRTIO_BLK_S_IOERR);
	assert_int_equal(status_of(f, 3), VIRTIO_BLK_S_OK);
	assert_int_equal(image_byte(f, 4096), 9);
	assert_int_equal(image_byte(f, 8192), 0);
	assert_int_equal(image_byte(f, 17 * 512), 0x77);
}

#define T_WITH(fn, with) cmocka_unit_test_setup_teardown(fn, with, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T_WITH(test_aligned_goes_straight, setup_4096),
		T_WITH(test_against_a_model, setup_4096),
		T_WITH(test_against_a_model, setup_512),
		T_WITH(test_parts_of_one_unit, setup_4096),
		T_WITH(test_errors_pass_the_buffer_on, setup_4096),
		T_WITH(test_reset, setup_4096),
		T_WITH(test_reset_frees_the_buffer, setup_4096),
		T_WITH(test_ring_full, setup_4096),
		T_WITH(test_ring_full_forgets, setup_4096),
		T_WITH(test_others_of_one_unit, setup_4096),
		T_WITH(test_ring_full_under_way, setup_4096),
		T_WITH(test_neighbours_do_not_wait, setup_4096),
		T_WITH(test_ring_full_between_read_and_write, setup_4096),
		T_WITH(test_einval, setup_4096),
		T_WITH(test_einval_of_a_part, setup_4096),
		T_WITH(test_truncated, setup_4096),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
