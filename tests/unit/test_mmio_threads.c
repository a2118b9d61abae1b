/* The transport between vCPU threads and the loop's: what runs on which, and that they may race. */
#define FIXTURE_REAL_LOOP
#include "tests/unit/mmio_fixture.h"

static void test_device_is_called_on_the_loop(void **state)
{
	struct fix *f = *state;
	uint8_t byte = 1;

	to_driver_ok(f, V1);
	assert_int_equal(f->note.activated, 1);
	assert_false(pthread_equal(f->note.thread, pthread_self()));
	f->note.thread = pthread_self();
	mmio_access(f->m, 0x100, true, &byte, 1);
	assert_int_equal(f->note.config_writes, 1);
	assert_false(pthread_equal(f->note.thread, pthread_self()));
	f->note.thread = pthread_self();
	put_status(f, 0);
	assert_int_equal(f->note.resets, 1);
	assert_false(pthread_equal(f->note.thread, pthread_self()));
}

/* The reset that every driver begins with needs no round trip to the loop. */
static void test_idle_reset_is_local(void **state)
{
	struct fix *f = *state;
	uint64_t turns = loop_turns(f->loop), own;

	own = loop_turns(f->loop) - turns; /* of asking */
	turns = loop_turns(f->loop);
	put_status(f, 0);
	to_features_ok(f, V1);
	put_queue(f, 0, 8, DRV_DESC, DRV_AVAIL, DRV_USED);
	put_status(f, 0);
	assert_int_equal(loop_turns(f->loop) - turns, own);
	assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_READY), 0);
}

/* Several vCPUs at the registers while one resets: no deadlock, and no step is lost (for TSan, too). */
static void *hammer(void *arg)
{
	struct fix *f = arg;

	for (unsigned i = 0; i < 20000; i++) {
		(void)get(f, VIRTIO_MMIO_INTERRUPT_STATUS); /* only that they return */
		(void)get(f, VIRTIO_MMIO_QUEUE_READY);
		(void)status(f);
		put(f, VIRTIO_MMIO_INTERRUPT_ACK, 3);
		put(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	}
	return NULL;
}

static void test_vcpus_race(void **state)
{
	struct fix *f = *state;
	pthread_t thread[2];

	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, hammer, f), 0);
	for (unsigned i = 0; i < 2000; i++) {
		to_driver_ok(f, V1);
		put_status(f, 0);
	}
	for (unsigned i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(f->note.resets, 2000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_device_is_called_on_the_loop),
		T(test_idle_reset_is_local),
		T(test_vcpus_race),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
