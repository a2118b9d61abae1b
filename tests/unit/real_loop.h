/*
 * The loop of a fixture, as mock_loop.h has it, but a real one, of the engine that the test chooses: for tests of what a thread
 * does that nobody watches. Include it once, in the test.
 */
#ifndef MF_TESTS_UNIT_REAL_LOOP_H
#define MF_TESTS_UNIT_REAL_LOOP_H

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/core/loop.h"

#define REAL_QUIET_MS 100
/* In that time: the two calls that ask for the number, each with the read of its eventfd, and two ticks of a timer. */
#define REAL_TURNS_MAX 8

static enum loop_engine fixture_engine;
static enum loop_kind fixture_kind = LOOP_SOCKETS;
static struct loop *real_loop;

static inline struct loop *fixture_loop_new(void)
{
	struct err e;

	assert_int_equal(loop_new(&real_loop, "test", fixture_engine, fixture_kind, &e), 0);
	return real_loop;
}

static inline void fixture_loop_start(struct loop *loop)
{
	struct err e;

	assert_int_equal(loop_start(loop, &e), 0);
}

static inline void fixture_loop_done(struct loop *loop)
{
	loop_free(loop);
}

static inline uint64_t real_turns_in(int ms)
{
	uint64_t before = loop_turns(real_loop);

	(void)poll(NULL, 0, ms);
	return loop_turns(real_loop) - before;
}

/* Until it makes a pause; one that never does so is for assert_sleeps to find. */
static inline void fixture_loop_turn(void)
{
	for (unsigned i = 0; i < 20 && real_turns_in(5) > 3; i++)
		;
}

/* Nothing is to be done, so the thread does nothing. */
#define assert_sleeps()                                                                                                \
	do {                                                                                                           \
		fixture_loop_turn();                                                                                   \
		assert_in_range(real_turns_in(REAL_QUIET_MS), 0, REAL_TURNS_MAX);                                      \
	} while (0)

#endif
