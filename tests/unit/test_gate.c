/* The gate, with threads that run no guest in the place of vCPUs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/vm/gate.h"

#define THREADS 4
#define PAUSE_MS 50
#define TIMEOUT_MS 60000
#define PAUSES 20
#define SWITCHES_MAX (10 * PAUSES) /* of one thread in all of them, if it sees none of their ends */

/* One for each test: its threads stay. */
static struct world {
	struct gate gate;
	atomic_bool over, away; /* away: they do not come to the gate */
	atomic_uint at_work;	/* turns that were made outside of the gate */
} worlds[5], *w;
static atomic_long most_switches;

static long switches(void)
{
	struct rusage usage;

	assert_int_equal(getrusage(RUSAGE_THREAD, &usage), 0);
	return usage.ru_nvcsw;
}

/* In the place of KVM_RUN, it looks at the gate. */
static void *vcpu(void *arg)
{
	struct world *mine = arg;

	while (!atomic_load(&mine->over)) {
		long before = switches(), made;

		if (!atomic_load(&mine->away))
			gate_park(&mine->gate);
		made = switches() - before;
		if (made > atomic_load(&most_switches))
			atomic_store(&most_switches, made); /* that of another may get lost; it will come again */
		atomic_fetch_add(&mine->at_work, 1);
		usleep(100);
	}
	gate_leave(&mine->gate);
}

static int start(void **state)
{
	pthread_t thread;

	(void)state;
	w = w ? w + 1 : worlds;
	atomic_store(&most_switches, 0);
	w->gate = (struct gate)GATE_INIT;
	for (unsigned i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_create(&thread, NULL, vcpu, w), 0);
		pthread_detach(thread);
		gate_enter(&w->gate);
	}
	return 0;
}

static void end(void)
{
	atomic_store(&w->over, true);
	gate_open(&w->gate);
	gate_await_left(&w->gate);
	assert_int_equal(w->gate.inside, 0);
}

static void pause_all(void)
{
	gate_close(&w->gate);
	assert_true(gate_await_parked(&w->gate, TIMEOUT_MS));
}

/* Four that had to hear of each other's arrival woke each other without end, and the main thread did not get the lock. */
static void test_parked_threads_sleep(void **state)
{
	(void)state;
	for (unsigned i = 0; i < PAUSES; i++) {
		unsigned before;

		pause_all();
		before = atomic_load(&w->at_work);
		usleep(PAUSE_MS * 1000);
		assert_int_equal(atomic_load(&w->at_work), before);
		gate_open(&w->gate);
	}
	end();
	assert_in_range(atomic_load(&most_switches), 1, SWITCHES_MAX);
}

static void test_end_while_parked(void **state)
{
	(void)state;
	pause_all();
	end();
}

/* Pauses that follow at once meet threads that have not noticed the end of the last. */
static void test_pause_again_and_again(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2000; i++) {
		pause_all();
		gate_open(&w->gate);
	}
	end();
}

/* Threads that do not come: it waits as long as it may, no longer, and those that come later park or not as it is then. */
static void test_timeout(void **state)
{
	struct timespec from, to;

	(void)state;
	pause_all();
	atomic_store(&w->away, true);
	gate_open(&w->gate);
	while (__atomic_load_n(&w->gate.parked, __ATOMIC_RELAXED) > 0)
		usleep(100);
	gate_close(&w->gate);
	clock_gettime(CLOCK_MONOTONIC, &from);
	assert_false(gate_await_parked(&w->gate, 1010));
	clock_gettime(CLOCK_MONOTONIC, &to);
	assert_true((to.tv_sec - from.tv_sec) * 1000 + (to.tv_nsec - from.tv_nsec) / 1000000 >= 1000);
	atomic_store(&w->away, false);
	assert_true(gate_await_parked(&w->gate, TIMEOUT_MS));
	end();
}

/* Threads that have left are not waited for. */
static void test_pause_of_nobody(void **state)
{
	(void)state;
	end();
	pause_all();
	gate_open(&w->gate);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_parked_threads_sleep, start),
		cmocka_unit_test_setup(test_end_while_parked, start),
		cmocka_unit_test_setup(test_pause_again_and_again, start),
		cmocka_unit_test_setup(test_timeout, start),
		cmocka_unit_test_setup(test_pause_of_nobody, start),
	};

	return cmocka_run_group_tests_name("gate", tests, NULL, NULL);
}
