/* Suppression of notifications and interrupts, with flags and with EVENT_IDX (virtio 1.2 §2.7.7, §2.7.10). */
#include "tests/unit/virtq_fixture.h"

#include <pthread.h>
#include <sched.h>

static void push_one(struct fix *f)
{
	drv_publish(&f->d, 0);
	assert_int_equal(pop(f), 1);
	virtq_push(&f->q, 0, 0);
}

static void test_interrupt_flag(void **state)
{
	struct fix *f = *state;

	drv_desc(&f->d, 0, DRV_DATA, 1, 0, 0);
	assert_false(virtq_needs_interrupt(&f->q)); /* nothing pushed */
	push_one(f);
	assert_true(virtq_needs_interrupt(&f->q));
	assert_false(virtq_needs_interrupt(&f->q)); /* nothing since */
	drv_set_no_interrupt(&f->d, true);
	drv_set_used_event(&f->d, f->q.next_used); /* means nothing here */
	push_one(f);
	assert_false(virtq_needs_interrupt(&f->q));
	drv_set_no_interrupt(&f->d, false);
	push_one(f);
	push_one(f);
	assert_true(virtq_needs_interrupt(&f->q));
}

static void test_interrupt_event_idx(void **state)
{
	struct fix *f = *state;

	start(f, true, true);
	drv_set_no_interrupt(&f->d, true); /* means nothing with EVENT_IDX (§2.7.7.2) */
	drv_desc(&f->d, 0, DRV_DATA, 1, 0, 0);
	assert_false(virtq_needs_interrupt(&f->q));
	push_one(f); /* used_event 0: interrupt when element 0 is there */
	assert_true(virtq_needs_interrupt(&f->q));
	push_one(f); /* already past it */
	assert_false(virtq_needs_interrupt(&f->q));
	drv_set_used_event(&f->d, 4);
	push_one(f);
	push_one(f);
	assert_false(virtq_needs_interrupt(&f->q)); /* 2 and 3 */
	push_one(f);
	push_one(f);
	push_one(f);
	assert_true(virtq_needs_interrupt(&f->q)); /* 4 among 4 to 6 */
}

/* Every pair of indices around the wrap against the definition: interrupt iff used_event is among the new elements. */
static void test_interrupt_event_idx_wrap(void **state)
{
	struct fix *f = *state;

	start(f, true, true);
	for (unsigned old = 65530; old < 65536 + 6; old++) {
		for (unsigned num = 0; num < 8; num++) {
			for (unsigned event = 65525; event < 65536 + 20; event++) {
				f->q.signalled_used = (uint16_t)old;
				f->q.next_used = (uint16_t)(old + num);
				drv_set_used_event(&f->d, (uint16_t)event);
				assert_int_equal(virtq_needs_interrupt(&f->q), event >= old && event < old + num);
				assert_int_equal(f->q.signalled_used, (uint16_t)(old + num));
			}
		}
	}
}

static void test_notify_flag(void **state)
{
	struct fix *f = *state;

	virtq_disable_notify(&f->q);
	assert_int_equal(drv_used_flags(&f->d), VRING_USED_F_NO_NOTIFY);
	assert_false(virtq_enable_notify(&f->q));
	assert_int_equal(drv_used_flags(&f->d), 0);
	drv_desc(&f->d, 0, DRV_DATA, 1, 0, 0);
	drv_publish(&f->d, 0);
	assert_true(virtq_enable_notify(&f->q));
	assert_int_equal(pop(f), 1);
	assert_false(virtq_enable_notify(&f->q));
	assert_int_equal(drv_avail_event(&f->d), 0);
}

static void test_notify_event_idx(void **state)
{
	struct fix *f = *state;

	start(f, true, true);
	drv_desc(&f->d, 0, DRV_DATA, 1, 0, 0);
	push_one(f);
	push_one(f);
	virtq_disable_notify(&f->q);
	assert_int_equal(drv_used_flags(&f->d), 0); /* §2.7.10.1: 0 with EVENT_IDX */
	assert_int_equal(drv_avail_event(&f->d), 0);
	assert_false(virtq_enable_notify(&f->q));
	assert_int_equal(drv_avail_event(&f->d), 2);
	drv_publish(&f->d, 0);
	assert_true(virtq_enable_notify(&f->q));
	assert_int_equal(drv_avail_event(&f->d), 2);
	assert_int_equal(pop(f), 1);
	assert_false(virtq_enable_notify(&f->q));
	assert_int_equal(drv_avail_event(&f->d), 3);
}

/* Random values in both event words lose no wake-up of valid requests that follow. */
static void test_notify_event_garbage(void **state)
{
	struct fix *f = *state;

	start(f, true, true);
	drv_desc(&f->d, 0, DRV_DATA, 1, 0, 0);
	srandom(1);
	for (unsigned i = 0; i < 1000; i++) {
		drv_set_used_event(&f->d, (uint16_t)random());
		drv_put16(&f->d, DRV_USED + 4 + 8U * f->d.size, (uint16_t)random());
		push_one(f);
		(void)virtq_needs_interrupt(&f->q); /* any answer is right */
		assert_false(virtq_enable_notify(&f->q));
		assert_int_equal(drv_avail_event(&f->d), f->d.avail_idx);
		drv_set_used_event(&f->d, f->q.next_used);
		push_one(f);
		assert_true(virtq_needs_interrupt(&f->q));
	}
}

/* Rings on top of each other and of the buffers hurt the guest alone. */
static void test_rings_overlap(void **state)
{
	struct fix *f = *state;

	f->q = drv_queue(&f->d);
	f->q.used_gpa = DRV_DESC;
	f->q.avail_gpa = DRV_DESC;
	assert_int_equal(virtq_start(&f->q, &f->d.mem, true, true, &f->why), 0);
	srandom(2);
	for (unsigned i = 0; i < 10000; i++) {
		uint8_t *p = drv_at(&f->d, DRV_DESC, 256);

		p[random() % 256] = (uint8_t)random();
		if (pop(f) == 1)
			virtq_push(&f->q, f->c.head, (uint32_t)random());
		(void)virtq_needs_interrupt(&f->q); /* only that they return */
		(void)virtq_enable_notify(&f->q);
		f->q.broken = false;
	}
}

/* A driver thread and a device that only tell each other when asked to: any lost notification hangs this test. */
#define WAKEUPS 20000

struct wake {
	struct drv *d;
	unsigned kicks, interrupts; /* signalled; each side sleeps until its own changes */
	pthread_mutex_t lock;
	pthread_cond_t changed;
};

static void wake_signal(struct wake *w, unsigned *what)
{
	pthread_mutex_lock(&w->lock);
	(*what)++;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->lock);
}

static void wake_wait(struct wake *w, const unsigned *what, unsigned *seen)
{
	pthread_mutex_lock(&w->lock);
	while (*what == *seen)
		pthread_cond_wait(&w->changed, &w->lock);
	*seen = *what;
	pthread_mutex_unlock(&w->lock);
}

static void *wake_driver(void *arg)
{
	struct wake *w = arg;
	struct drv *d = w->d;
	uint16_t last_used = 0;
	unsigned seen = 0;

	for (unsigned i = 0; i < WAKEUPS; i++) {
		uint16_t old = d->avail_idx;

		drv_publish(d, 0);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (vring_need_event(drv_avail_event(d), d->avail_idx, old))
			wake_signal(w, &w->kicks);
		for (;;) {
			drv_set_used_event(d, last_used);
			__atomic_thread_fence(__ATOMIC_SEQ_CST);
			if (drv_used_idx(d) != last_used)
				break;
			wake_wait(w, &w->interrupts, &seen);
		}
		last_used++;
	}
	return NULL;
}

static void test_no_lost_wakeup(void **state)
{
	struct fix *f = *state;
	struct wake w = { .d = &f->d, .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };
	unsigned done = 0, seen = 0;
	pthread_t thread;

	start(f, true, true);
	drv_desc(&f->d, 0, DRV_DATA, 1, WRITE, 0);
	assert_int_equal(pthread_create(&thread, NULL, wake_driver, &w), 0);
	while (done < WAKEUPS) {
		while (pop(f) == 1) {
			virtq_push(&f->q, f->c.head, 1);
			done++;
			if (virtq_needs_interrupt(&f->q))
				wake_signal(&w, &w.interrupts);
		}
		assert_null(f->why);
		if (done < WAKEUPS && !virtq_enable_notify(&f->q))
			wake_wait(&w, &w.kicks, &seen);
	}
	pthread_join(thread, NULL);
}

/*
 * Both sides at the same moment, many times: the device asks for a notification (and the driver for an interrupt) just as
 * the other side publishes. At least one of the two must see the other's word; without the full barriers, soon neither
 * does.
 */
#define MOMENTS 100000

struct moment {
	struct fix *f;
	unsigned device_at, driver_at; /* the moment that each has reached */
	bool driver_told;	       /* the device, of an available buffer */
	bool driver_found;	       /* a used element, by itself */
};

static void moment_meet(unsigned *own, const unsigned *other, unsigned i)
{
	unsigned spins = 0;

	__atomic_store_n(own, i, __ATOMIC_RELEASE);
	while (__atomic_load_n(other, __ATOMIC_ACQUIRE) < i)
		if (++spins % 1000 == 0)
			sched_yield();
}

/* The device is done sooner than this driver: it waits a little, another while each time. */
static void moment_wait(unsigned i)
{
	for (unsigned k = i % 64; k > 0; k--)
		__asm__ volatile("");
}

/* From 5i+1 to 5i+2 the notification, from 5i+3 to 5i+4 the interrupt, up to 5i+5 the device looks at what came of it. */
static void *moment_driver(void *arg)
{
	struct moment *m = arg;
	struct drv *d = &m->f->d;

	for (unsigned i = 0; i < MOMENTS; i++) {
		uint16_t used = drv_used_idx(d), old = d->avail_idx;

		drv_add(d, 0);
		moment_meet(&m->driver_at, &m->device_at, 5 * i + 1);
		drv_publish_idx(d, d->avail_idx);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		m->driver_told = vring_need_event(drv_avail_event(d), d->avail_idx, old);
		moment_meet(&m->driver_at, &m->device_at, 5 * i + 2);
		moment_meet(&m->driver_at, &m->device_at, 5 * i + 3);
		drv_set_used_event(d, used);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		m->driver_found = drv_used_idx(d) != used;
		moment_meet(&m->driver_at, &m->device_at, 5 * i + 4);
		moment_meet(&m->driver_at, &m->device_at, 5 * i + 5);
	}
	return NULL;
}

static void test_both_sides_at_once(void **state)
{
	struct fix *f = *state;
	struct moment m = { .f = f };
	unsigned lost_kicks = 0, lost_interrupts = 0;
	pthread_t thread;

	start(f, true, true);
	drv_desc(&f->d, 0, DRV_DATA, 1, WRITE, 0);
	drv_set_used_event(&f->d, 0x8000);
	assert_int_equal(pthread_create(&thread, NULL, moment_driver, &m), 0);
	for (unsigned i = 0; i < MOMENTS; i++) {
		bool saw, interrupts;

		moment_meet(&m.device_at, &m.driver_at, 5 * i + 1);
		moment_wait(i);
		saw = virtq_enable_notify(&f->q);
		moment_meet(&m.device_at, &m.driver_at, 5 * i + 2);
		lost_kicks += pop(f) != 1 || (!saw && !m.driver_told);
		moment_meet(&m.device_at, &m.driver_at, 5 * i + 3);
		virtq_push(&f->q, 0, 1);
		interrupts = virtq_needs_interrupt(&f->q);
		moment_meet(&m.device_at, &m.driver_at, 5 * i + 4);
		lost_interrupts += !interrupts && !m.driver_found;
		moment_meet(&m.device_at, &m.driver_at, 5 * i + 5);
	}
	pthread_join(thread, NULL);
	assert_int_equal(lost_kicks, 0);
	assert_int_equal(lost_interrupts, 0);
}

/* A paused queue: the driver's requests stay where they are, and its words in the used ring, too. */
static void test_paused(void **state)
{
	struct fix *f = *state;

	for (unsigned event_idx = 0; event_idx < 2; event_idx++) {
		start(f, event_idx, true);
		drv_publish_idx(&f->d, 0);
		drv_desc(&f->d, 0, DRV_DATA, 1, 0, 0);
		drv_put16(&f->d, DRV_USED, 0);
		drv_put16(&f->d, DRV_USED + 4 + 8U * f->d.size, 77);
		drv_publish(&f->d, 0);
		f->q.paused = true;
		assert_int_equal(pop(f), 0);
		assert_false(virtq_enable_notify(&f->q));
		assert_int_equal(virtq_await_more(&f->q), 0);
		virtq_disable_notify(&f->q);
		assert_int_equal(drv_used_flags(&f->d), 0);
		assert_int_equal(drv_avail_event(&f->d), 77);
		f->q.paused = false;
		assert_int_equal(pop(f), 1);
		virtq_push(&f->q, 0, 0);
	}
}

/* A device that leaves buffers in the queue hears of the next one, not of those that are there. */
static void test_await_more(void **state)
{
	struct fix *f = *state;

	start(f, true, true);
	drv_publish_idx(&f->d, 3);
	assert_int_equal(virtq_await_more(&f->q), 3);
	assert_int_equal(drv_avail_event(&f->d), 3);
	drv_publish_idx(&f->d, 4);
	assert_int_equal(virtq_await_more(&f->q), 4);
	assert_int_equal(drv_avail_event(&f->d), 4);
	start(f, false, true);
	virtq_disable_notify(&f->q);
	assert_int_equal(virtq_await_more(&f->q), 4);
	assert_int_equal(drv_used_flags(&f->d), 0);
	f->q.broken = true;
	assert_int_equal(virtq_await_more(&f->q), 0);
	virtq_stop(&f->q);
	assert_int_equal(virtq_await_more(&f->q), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_paused),
		T(test_await_more),
		T(test_interrupt_flag),
		T(test_interrupt_event_idx),
		T(test_interrupt_event_idx_wrap),
		T(test_notify_flag),
		T(test_notify_event_idx),
		T(test_notify_event_garbage),
		T(test_rings_overlap),
		T(test_no_lost_wakeup),
		T(test_both_sides_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
