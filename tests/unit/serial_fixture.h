/* A serial port with a loop that is turned by hand, and a guest's accesses. Include it once, in a test. */
#ifndef MF_TESTS_UNIT_SERIAL_FIXTURE_H
#define MF_TESTS_UNIT_SERIAL_FIXTURE_H

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/core/loop.h"
#include "vmm/core/timer.h"
#include "vmm/platform/serial.h"

enum { RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR, THR = 0, DLL = 0, DLM = 1, FCR = 2 };
enum { RDI = 1, THRI = 2, RLSI = 4, MSI = 8 };
enum { DR = 0x01, OE = 0x02, BI = 0x10, EMPTY = 0x60 };

#define NEVER_MS 1000000000 /* stall limit: not in this test */

static struct serial_test {
	struct serial *s;
	struct watch *watch;
	int fd;
	_Atomic unsigned irqs; /* edges */
	unsigned wakes, opened, first_output;
	size_t seen;		   /* bytes shown to output() */
	void (*while_shown)(void); /* or NULL: what a vCPU does meanwhile */
	uint8_t last_seen;
	struct timers timers; /* the test moves the time, by pass */
} t;

/* The loop: one watch, fired by hand. */
int loop_watch(struct loop *loop, struct watch *watch, int eventfd)
{
	(void)loop;
	t.watch = watch;
	t.fd = eventfd;
	return 0;
}

struct timers *loop_timers(struct loop *loop)
{
	(void)loop;
	return &t.timers;
}

static inline void pass(uint64_t ns)
{
	timers_run(&t.timers, t.timers.now_ns + ns);
}

/* A turn of the loop. Returns whether there was a signal. */
static inline bool turn(void)
{
	struct pollfd p = { .fd = t.fd, .events = POLLIN };
	uint64_t count;

	if (poll(&p, 1, 0) != 1)
		return false;
	assert_int_equal(read(t.fd, &count, sizeof(count)), sizeof(count));
	t.watch->fire(t.watch);
	return true;
}

static inline void on_raise(void *ctx)
{
	assert_ptr_equal(ctx, &t);
	t.irqs++;
}

static inline void on_event(void *ctx, enum serial_event event)
{
	assert_ptr_equal(ctx, &t);
	if (event == SERIAL_EVENT_OPENED)
		t.opened++;
	else
		t.first_output++;
}

static inline void on_wake(void *ctx)
{
	(void)ctx;
	t.wakes++;
}

static inline void on_output(void *ctx, const uint8_t *data, size_t len)
{
	(void)ctx;
	assert_true(len > 0);
	t.seen += len;
	t.last_seen = data[len - 1];
	if (t.while_shown)
		t.while_shown();
}

static const struct serial_ops ops = { .raise = on_raise, .event = on_event };
static const struct serial_host host = { .wake = on_wake, .output = on_output };

static inline void make(unsigned stall_ms)
{
	struct err e;

	memset(&t, 0, sizeof(t));
	assert_int_equal(serial_new(&t.s, NULL, &ops, &t, stall_ms, &e), 0);
	serial_set_host(t.s, &host, &t);
	assert_int_equal(t.fd, serial_event_fd(t.s));
	assert_true(turn());
	assert_int_equal(t.wakes, 1);
}

static inline int setup(void **state)
{
	(void)state;
	make(NEVER_MS);
	return 0;
}

static inline int teardown(void **state)
{
	(void)state;
	serial_free(t.s);
	return 0;
}

static inline void out(unsigned reg, uint8_t value)
{
	serial_access(t.s, reg, true, &value, 1);
}

static inline uint8_t in(unsigned reg)
{
	uint8_t value = 0xff;

	serial_access(t.s, reg, false, &value, 1);
	return value;
}

/* THRE and TEMT: both or none. */
static inline uint8_t tx_flags(void)
{
	uint8_t lsr = in(LSR);

	return lsr & EMPTY;
}

static inline bool lsr_has(uint8_t bits)
{
	return (in(LSR)&bits) == bits;
}

/* Edges since the last call, after all turns that are due. */
static inline unsigned edges(void)
{
	unsigned n;

	while (turn())
		;
	n = t.irqs;
	t.irqs = 0;
	return n;
}

/* Input that comes long after the last. */
static inline size_t push(const char *text)
{
	uint16_t chars[256];
	size_t n = strlen(text);

	for (size_t i = 0; i < n; i++)
		chars[i] = (uint8_t)text[i];
	pass(SERIAL_RX_PAUSE_MAX_MS * 1000000ULL);
	return serial_rx_push(t.s, chars, n);
}

/* Takes all output, as a fast reader does. */
static inline size_t take(uint8_t *to, size_t max)
{
	const uint8_t *data;
	size_t sum = 0, len;

	while (sum < max && (len = serial_tx_peek(t.s, &data, max - sum))) {
		if (to)
			memcpy(to + sum, data, len);
		sum += len;
		serial_tx_done(t.s, len);
	}
	return sum;
}

/* As serial8250_do_startup and set_termios do. */
static inline void open_port(void)
{
	out(FCR, 0x01);
	out(FCR, 0x07);
	out(FCR, 0);
	in(LSR);
	in(RBR);
	in(IIR);
	in(MSR);
	out(LCR, 3);
	out(MCR, 0x0b);
	out(IER, RDI | RLSI);
	out(FCR, 0x01); /* set_termios: in two steps */
	out(FCR, 0x81);
	assert_int_equal(t.opened, 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
