/* What the tests of virtq.c share: a queue that is started, and its driver. */
#ifndef MF_TESTS_UNIT_VIRTQ_FIXTURE_H
#define MF_TESTS_UNIT_VIRTQ_FIXTURE_H

#include "tests/unit/mock_driver.h"

#include <errno.h>
#include <stdlib.h>

struct fix {
	struct drv d;
	struct virtq q;
	struct virtq_chain c;
	const char *why;
};

static inline void start(struct fix *f, bool event_idx, bool indirect)
{
	f->q = drv_queue(&f->d);
	assert_int_equal(virtq_start(&f->q, &f->d.mem, event_idx, indirect, &f->why), 0);
}

static inline int setup_size(void **state, uint16_t size)
{
	struct fix *f = calloc(1, sizeof(*f));

	drv_init(&f->d, size, DRV_MEM);
	start(f, false, true);
	*state = f;
	return 0;
}

static inline int setup(void **state)
{
	return setup_size(state, 8);
}

static inline int setup_256(void **state)
{
	return setup_size(state, 256);
}

static inline int teardown(void **state)
{
	struct fix *f = *state;

	drv_done(&f->d);
	free(f);
	return 0;
}

static inline int pop(struct fix *f)
{
	f->why = NULL;
	return virtq_pop(&f->q, &f->c, &f->why);
}

/* The queue is broken for this reason and stays so, until it is stopped; then it works. */
static inline void assert_broken(struct fix *f, const char *why)
{
	assert_int_equal(pop(f), -EPROTO);
	assert_string_equal(f->why, why);
	assert_true(f->q.broken);
	assert_int_equal(pop(f), -EPROTO);
	assert_string_equal(f->why, "the queue is broken");
	assert_false(virtq_enable_notify(&f->q));

	virtq_stop(&f->q);
	assert_int_equal(pop(f), 0);
	drv_publish_idx(&f->d, 0);
	start(f, false, true);
	drv_desc(&f->d, 3, DRV_DATA, 16, 0, 0);
	drv_publish(&f->d, 3);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->c.head, 3);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
#define T256(fn) cmocka_unit_test_setup_teardown(fn, setup_256, teardown)

#endif
