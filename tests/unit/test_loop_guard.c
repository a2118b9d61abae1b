/* The guard of a loop's threads, on both engines. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/base/err.h"
#include "vmm/core/loop.h"

#define NOBODY (-1)

static struct {
	unsigned called[LOOP_NUM_THREADS];
	pthread_t thread[LOOP_NUM_THREADS];
	void *ctx;
	int ring_fd, done_fd;
	bool takes_signals;
	int refuse; /* on this thread, or NOBODY */
} guarded;

static struct loop *loop;
static struct err err;

static int guard(void *ctx, enum loop_thread which)
{
	sigset_t blocked;

	(void)pthread_sigmask(SIG_SETMASK, NULL, &blocked);
	guarded.takes_signals |= !sigismember(&blocked, SIGTERM) || !sigismember(&blocked, SIGUSR1);
	guarded.ctx = ctx;
	guarded.called[which]++;
	guarded.thread[which] = pthread_self();
	guarded.ring_fd = loop_ring_fd(loop);
	guarded.done_fd = loop_done_fd(loop);
	return guarded.refuse == (int)which ? -EPERM : 0;
}

static int start(enum loop_engine engine, enum loop_kind kind, int refuse)
{
	memset(&guarded, 0, sizeof(guarded));
	guarded.refuse = refuse;
	assert_int_equal(loop_new(&loop, "guarded", engine, kind, &err), 0);
	loop_set_guard(loop, guard, &guarded);
	return loop_start(loop, &err);
}

static int self(void *arg)
{
	*(pthread_t *)arg = pthread_self();
	return 7;
}

static void test_guard(void **state)
{
	pthread_t thread;

	(void)state;
	for (int engine = LOOP_ENGINE_RING; engine <= LOOP_ENGINE_SYNC; engine++) {
		for (int kind = LOOP_FIXED; kind <= LOOP_SOCKETS; kind++) {
			bool worker = engine == LOOP_ENGINE_SYNC && kind != LOOP_SOCKETS;

			assert_int_equal(start((enum loop_engine)engine, (enum loop_kind)kind, NOBODY), 0);
			assert_ptr_equal(guarded.ctx, &guarded);
			assert_int_equal(guarded.called[LOOP_THREAD_MAIN], 1);
			assert_int_equal(guarded.called[LOOP_THREAD_WORKER], worker);
			assert_int_equal(guarded.ring_fd >= 0, engine == LOOP_ENGINE_RING);
			assert_int_equal(guarded.done_fd >= 0, engine == LOOP_ENGINE_SYNC);
			assert_int_equal(loop_call(loop, self, &thread), 7);
			assert_true(pthread_equal(guarded.thread[LOOP_THREAD_MAIN], thread));
			assert_false(pthread_equal(guarded.thread[LOOP_THREAD_WORKER], thread));
			assert_false(guarded.takes_signals);
			loop_free(loop);
		}
	}
}

static void test_guard_refuses(void **state)
{
	(void)state;
	for (int refuse = LOOP_THREAD_MAIN; refuse <= LOOP_THREAD_WORKER; refuse++) {
		assert_int_equal(start(LOOP_ENGINE_SYNC, LOOP_FIXED, refuse), -EPERM);
		assert_non_null(strstr(err.text, "guarded"));
		loop_free(loop);
	}
	assert_int_equal(start(LOOP_ENGINE_RING, LOOP_FIXED, LOOP_THREAD_MAIN), -EPERM);
	loop_free(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_guard),
		cmocka_unit_test(test_guard_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
