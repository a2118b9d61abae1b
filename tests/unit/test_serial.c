/* The serial port: registers as Linux's 8250 driver uses them, edges, slow and absent readers, threads. */
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
#include "vmm/serial.h"

enum { RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR, THR = 0, DLL = 0, DLM = 1, FCR = 2 };
enum { RDI = 1, THRI = 2, RLSI = 4, MSI = 8 };
enum { DR = 0x01, OE = 0x02, BI = 0x10, EMPTY = 0x60 };

#define NEVER_MS 1000000000 /* stall limit: not in this test */
#define TOTAL (1 << 20)

static struct {
	struct serial *s;
	struct watch *watch;
	int fd;
	_Atomic unsigned irqs; /* edges */
	unsigned wakes, opened, first_output;
	size_t seen; /* bytes shown to output() */
	uint8_t last_seen;
} t;

/* The loop: one watch, fired by hand. */
int loop_watch(struct loop *loop, struct watch *watch, int eventfd)
{
	(void)loop;
	t.watch = watch;
	t.fd = eventfd;
	return 0;
}

/* A turn of the loop. Returns whether there was a signal. */
static bool turn(void)
{
	struct pollfd p = { .fd = t.fd, .events = POLLIN };
	uint64_t count;

	if (poll(&p, 1, 0) != 1)
		return false;
	assert_int_equal(read(t.fd, &count, sizeof(count)), sizeof(count));
	t.watch->fire(t.watch);
	return true;
}

static void on_raise(void *ctx)
{
	assert_ptr_equal(ctx, &t);
	t.irqs++;
}

static void on_event(void *ctx, enum serial_event event)
{
	assert_ptr_equal(ctx, &t);
	if (event == SERIAL_EVENT_OPENED)
		t.opened++;
	else
		t.first_output++;
}

static void on_wake(void *ctx)
{
	(void)ctx;
	t.wakes++;
}

static void on_output(void *ctx, const uint8_t *data, size_t len)
{
	(void)ctx;
	assert_true(len > 0);
	t.seen += len;
	t.last_seen = data[len - 1];
}

static const struct serial_ops ops = { .raise = on_raise, .event = on_event };
static const struct serial_host host = { .wake = on_wake, .output = on_output };

static void make(unsigned stall_ms)
{
	struct err e;

	memset(&t, 0, sizeof(t));
	assert_int_equal(serial_new(&t.s, NULL, &ops, &t, stall_ms, &e), 0);
	serial_set_host(t.s, &host, &t);
	assert_int_equal(t.fd, serial_event_fd(t.s));
	assert_true(turn());
	assert_int_equal(t.wakes, 1);
}

static int setup(void **state)
{
	(void)state;
	make(NEVER_MS);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	serial_free(t.s);
	return 0;
}

static void out(unsigned reg, uint8_t value)
{
	serial_access(t.s, reg, true, &value, 1);
}

static uint8_t in(unsigned reg)
{
	uint8_t value = 0xff;

	serial_access(t.s, reg, false, &value, 1);
	return value;
}

/* Edges since the last call, after all turns that are due. */
static unsigned edges(void)
{
	unsigned n;

	while (turn())
		;
	n = t.irqs;
	t.irqs = 0;
	return n;
}

static size_t push(const char *text)
{
	uint16_t chars[256];
	size_t n = strlen(text);

	for (size_t i = 0; i < n; i++)
		chars[i] = (uint8_t)text[i];
	return serial_rx_push(t.s, chars, n);
}

/* Takes all output, as a fast reader does. */
static size_t take(uint8_t *to, size_t max)
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

static void test_reset_values(void **state)
{
	(void)state;
	assert_int_equal(in(IER), 0);
	assert_int_equal(in(IIR), 0x01);
	assert_int_equal(in(LCR), 0);
	assert_int_equal(in(MCR), 0);
	assert_int_equal(in(LSR), EMPTY);
	assert_int_equal(in(MSR), 0xb0);
	assert_int_equal(in(SCR), 0);
	assert_int_equal(in(RBR), 0);
	assert_int_equal(edges(), 0);
	serial_free(NULL);
}

/* serial8250's autoconfig() and autoconfig_16550a(), register by register. */
static void test_linux_probe_finds_a_16550a(void **state)
{
	uint8_t value;

	(void)state;
	out(IER, 0);
	assert_int_equal(in(IER), 0);
	out(IER, 0x0f);
	assert_int_equal(in(IER)&0x0f, 0x0f);
	out(IER, 0);
	out(MCR, 0x10 | 0x0a);
	assert_int_equal(in(MSR)&0xf0, 0x90);
	out(MCR, 0);
	out(LCR, 0xbf);
	out(FCR, 0); /* EFR */
	out(LCR, 0);
	out(FCR, 1);
	assert_int_equal(in(IIR) >> 6, 3);
	out(LCR, 0x80);
	assert_int_not_equal(in(IIR), 0); /* no EFR of a 16650 */
	out(LCR, 0xbf);
	assert_int_not_equal(in(IIR), 0);
	out(LCR, 0);
	/* National's Super-I/O has LOOP in EXCR1 */
	value = in(MCR);
	out(LCR, 0xe0);
	assert_false((in(2) ^ value) & 0x10);
	out(LCR, 0);
	out(MCR, value ^ 0x10);
	out(LCR, 0xe0);
	value = in(2);
	out(LCR, 0);
	assert_false(value & 0x10);
	out(MCR, 0);
	/* 16750: FCR bit 5 shows in IIR */
	out(FCR, 0x21);
	assert_int_equal(in(IIR) >> 5, 6);
	out(LCR, 0x80);
	out(FCR, 0x21);
	assert_int_equal(in(IIR) >> 5, 6);
	out(LCR, 0);
	/* XScale: UUE sticks */
	out(IER, 0x40);
	assert_int_equal(in(IER), 0);
	out(SCR, 0xa5);
	assert_int_equal(in(SCR), 0xa5);
	assert_int_equal(t.opened, 0);
	assert_int_equal(take(NULL, 100), 0);
}

static void test_divisor_latch(void **state)
{
	(void)state;
	out(LCR, 0x83);
	out(DLL, 1);
	out(DLM, 2);
	assert_int_equal(in(DLL), 1);
	assert_int_equal(in(DLM), 2);
	assert_int_equal(in(LCR), 0x83);
	out(LCR, 0x03);
	assert_int_equal(in(IER), 0);
	assert_int_equal(take(NULL, 100), 0);
	assert_int_equal(t.opened + t.first_output, 0);
}

/* serial8250_THRE_test: IIR shows THRI whenever THRI is switched on; also the TXEN test. */
static void test_thri_shows_at_once_and_again(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		out(IER, THRI);
		assert_int_equal(in(LSR)&EMPTY, EMPTY);
		assert_int_equal(in(IIR), 0x02);
		assert_int_equal(in(IIR), 0x01);
		assert_int_equal(edges(), 0); /* taken before the loop came */
		out(IER, 0);
		assert_int_equal(in(IIR), 0x01);
	}
	out(IER, THRI);
	assert_int_equal(edges(), 1);
	out(IER, THRI); /* no change, no edge */
	assert_int_equal(edges(), 0);
}

static void test_one_edge_per_fifo_of_output(void **state)
{
	uint8_t got[64];

	(void)state;
	out(IER, THRI);
	assert_int_equal(edges(), 1);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(in(IIR), 0x02);
		for (int j = 0; j < 16; j++)
			out(THR, (uint8_t)(16 * i + j));
		assert_int_equal(in(IIR), 0x01); /* empty again only when the loop says so */
		assert_int_equal(edges(), 1);
	}
	assert_int_equal(t.first_output, 1);
	assert_int_equal(t.seen, 64);
	assert_int_equal(t.last_seen, 63);
	assert_int_equal(take(got, 64), 64);
	for (int i = 0; i < 64; i++)
		assert_int_equal(got[i], i);
	assert_true(serial_drain(t.s, 0));
}

/* printk: polls, IER is 0. One signal while nothing is being written; none while a write is under way. */
static void test_polled_output(void **state)
{
	const uint8_t *data;

	(void)state;
	out(THR, 'a');
	out(THR, 'b');
	assert_true(turn());
	assert_false(turn());
	assert_int_equal(t.irqs, 0);
	assert_int_equal(serial_tx_peek(t.s, &data, 100), 2);
	assert_memory_equal(data, "ab", 2);
	out(THR, 'c');
	assert_false(turn());
	/* A driver that wants its interrupt is not left waiting for that write. */
	out(IER, THRI);
	assert_int_equal(edges(), 1);
	assert_int_equal(in(IIR), 0x02);
	out(THR, 'd');
	assert_int_equal(edges(), 1);
	serial_tx_done(t.s, 1);
	assert_int_equal(serial_tx_peek(t.s, &data, 100), 3);
	assert_memory_equal(data, "bcd", 3);
	serial_tx_done(t.s, 0);
	assert_int_equal(take(NULL, 100), 3);
	assert_int_equal(t.seen, 4);
	assert_int_equal(t.first_output, 1);
}

static void open_port(void)
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

static void test_input(void **state)
{
	(void)state;
	open_port();
	assert_int_equal(edges(), 0);
	assert_int_equal(push("hi"), 2);
	assert_int_equal(edges(), 1);
	assert_int_equal(in(IIR), 0xc4);
	assert_int_equal(in(LSR), EMPTY | DR);
	assert_int_equal(in(RBR), 'h');
	assert_int_equal(edges(), 1); /* more is left: a driver that takes one byte per interrupt gets another */
	assert_int_equal(in(RBR), 'i');
	assert_int_equal(in(LSR), EMPTY);
	assert_int_equal(in(IIR), 0xc1);
	assert_int_equal(in(RBR), 0);
	assert_int_equal(edges(), 0);
}

static void test_input_before_open_is_kept(void **state)
{
	(void)state;
	assert_int_equal(push("typed "), 6);
	open_port();
	assert_int_equal(edges(), 1);
	assert_int_equal(push("ahead"), 5);
	for (const char *p = "typed ahead"; *p; p++) {
		assert_int_equal(in(LSR), EMPTY | DR);
		assert_int_equal(in(RBR), *p);
	}
	assert_int_equal(in(LSR), EMPTY);
}

static void test_polled_input(void **state)
{
	unsigned polls = 0;

	(void)state;
	out(FCR, 0xc7);
	push("k");
	while (!(in(LSR)&DR))
		assert_true(++polls < 100);
	assert_int_equal(in(RBR), 'k');
	push("l");
	assert_int_equal(in(LSR), EMPTY | DR);
	assert_int_equal(in(RBR), 'l');
	assert_int_equal(edges(), 0);
}

static void test_input_is_bounded_and_wakes(void **state)
{
	char text[101];
	unsigned wakes;

	(void)state;
	memset(text, 'x', 100);
	text[100] = '\0';
	open_port();
	assert_int_equal(serial_rx_room(t.s), SERIAL_RX_SIZE);
	assert_int_equal(push(text), SERIAL_RX_SIZE);
	assert_int_equal(serial_rx_room(t.s), 0);
	assert_int_equal(push(text), 0);
	in(RBR);
	edges(); /* one for what is left */
	wakes = t.wakes;
	for (int i = 0; i < SERIAL_RX_SIZE / 2 - 2; i++)
		in(RBR);
	assert_false(turn());
	in(RBR);
	assert_true(turn());
	assert_int_equal(t.wakes, wakes + 1);
	assert_int_equal(serial_rx_room(t.s), SERIAL_RX_SIZE / 2);
}

static void test_flow_control_by_rts(void **state)
{
	(void)state;
	open_port();
	edges();
	out(MCR, 0x09);
	assert_int_equal(serial_rx_room(t.s), 0);
	assert_int_equal(push("a"), 0);
	while (turn())
		;
	t.wakes = 0;
	out(MCR, 0x0b);
	assert_true(turn());
	assert_int_equal(t.wakes, 1);
	assert_int_equal(push("a"), 1);
}

static void test_break_then_key(void **state)
{
	const uint16_t chars[] = { 'a', SERIAL_BREAK, 'b' };

	(void)state;
	open_port();
	assert_int_equal(serial_rx_push(t.s, chars, 3), 3);
	assert_int_equal(edges(), 1);
	assert_int_equal(in(IIR), 0xc4);
	assert_int_equal(in(RBR), 'a');
	assert_int_equal(in(IIR), 0xc6); /* line status first */
	assert_int_equal(in(LSR), EMPTY | DR | BI);
	assert_int_equal(in(LSR), EMPTY | DR);
	assert_int_equal(in(IIR), 0xc4);
	assert_int_equal(in(RBR), 0);
	assert_int_equal(in(RBR), 'b');
}

static void test_loopback(void **state)
{
	(void)state;
	open_port();
	push("host");
	edges();
	out(MCR, 0x1b);
	assert_int_equal(in(LSR), EMPTY);
	assert_int_equal(serial_rx_room(t.s), 0);
	out(THR, 0x5a);
	assert_int_equal(edges(), 1);
	assert_int_equal(in(LSR), EMPTY | DR);
	assert_int_equal(in(RBR), 0x5a);
	for (int i = 0; i < 100; i++)
		out(THR, (uint8_t)i);
	assert_int_equal(in(LSR), EMPTY | DR | OE);
	assert_int_equal(in(LSR), EMPTY | DR);
	out(FCR, 0x83);
	assert_int_equal(in(LSR), EMPTY);
	assert_int_equal(take(NULL, 100), 0);
	out(MCR, 0x0b);
	assert_int_equal(edges(), 1);
	assert_int_equal(in(RBR), 'h');
	assert_int_equal(serial_rx_room(t.s), SERIAL_RX_SIZE - 3);
}

static void test_modem_lines(void **state)
{
	static const uint8_t lines[] = { 0x00, 0x20, 0x10, 0x30, 0x40, 0x60, 0x50, 0x70,
					 0x80, 0xa0, 0x90, 0xb0, 0xc0, 0xe0, 0xd0, 0xf0 };

	(void)state;
	out(IER, MSI);
	assert_int_equal(edges(), 0);
	out(MCR, 0x10);
	assert_int_equal(edges(), 1);
	assert_int_equal(in(IIR), 0x00);
	assert_int_equal(in(MSR), 0x0b); /* CTS, DSR, DCD fell */
	assert_int_equal(in(IIR), 0x01);
	for (unsigned i = 0; i < 16; i++) {
		out(MCR, (uint8_t)(0x10 | i));
		assert_int_equal(in(MSR)&0xf0, lines[i]);
	}
	out(MCR, 0x1b);
	assert_int_equal(in(MSR), 0xb4); /* RI fell */
	out(MCR, 0xe0);
	assert_int_equal(in(MCR), 0);
}

/* Several causes at once come by priority; each that is left gets its edge. */
static void test_priorities(void **state)
{
	const uint16_t chars[] = { SERIAL_BREAK };

	(void)state;
	out(MCR, 0x10);
	out(MCR, 0);
	assert_int_equal(serial_rx_push(t.s, chars, 1), 1);
	assert_int_equal(edges(), 0);
	out(IER, 0x0f);
	assert_int_equal(edges(), 1);
	assert_int_equal(in(IIR), 0x06);
	assert_int_equal(in(LSR)&BI, BI);
	assert_int_equal(edges(), 1);
	assert_int_equal(in(IIR), 0x04);
	in(RBR);
	assert_int_equal(edges(), 1);
	assert_int_equal(in(IIR), 0x02);
	assert_int_equal(edges(), 1);
	assert_int_equal(in(IIR), 0x00);
	in(MSR);
	assert_int_equal(edges(), 0);
	assert_int_equal(in(IIR), 0x01);
}

static void test_wide_accesses_are_bytes(void **state)
{
	uint8_t data[8] = { 0 };

	(void)state;
	out(LCR, 3);
	out(SCR, 0x77);
	serial_access(t.s, 0, false, data, 8);
	assert_memory_equal(data, ((uint8_t[]){ 0, 0, 1, 3, 0, 0x60, 0xb0, 0x77 }), 8);
	data[0] = 0x0b;
	data[1] = 0xff;
	serial_access(t.s, MCR, true, data, 2);
	assert_int_equal(in(MCR), 0x0b);
	assert_int_equal(in(LSR), EMPTY);
	/* The bus does not do this; it must do no harm. */
	serial_access(t.s, 7, true, data, 4);
	serial_access(t.s, 1000, true, data, 4);
}

/* An interrupt-driven guest and a reader that stands still: it waits, for ever, and goes on at half. */
static void test_stalled_reader_holds_an_interrupt_driven_guest(void **state)
{
	size_t sent = 0, half;

	(void)state;
	serial_free(t.s);
	make(0);
	out(IER, THRI);
	while (edges()) {
		assert_int_equal(in(IIR), 0x02);
		while ((in(LSR)&EMPTY) && sent < 2 * SERIAL_TX_SIZE) {
			out(THR, (uint8_t)sent++);
			if (sent % 16 == 0)
				break;
		}
	}
	assert_true(sent >= SERIAL_TX_SIZE / 2 && sent <= SERIAL_TX_SIZE);
	while (in(LSR)&EMPTY)
		out(THR, (uint8_t)sent++);
	usleep(30000);
	assert_int_equal(in(LSR)&EMPTY, 0);
	assert_int_equal(edges(), 0);
	assert_int_equal(serial_dropped(t.s), 0);
	half = sent - SERIAL_TX_SIZE / 2;
	take(NULL, half - 1);
	assert_int_equal(edges(), 0);
	take(NULL, 1);
	assert_int_equal(edges(), 1);
	assert_int_equal(in(LSR)&EMPTY, EMPTY);
	assert_int_equal(t.seen, sent);
}

/* A polling guest and a reader that stands still: told to wait at first, then its bytes are dropped and counted. */
static void test_stalled_reader_drops_polled_output(void **state)
{
	size_t sent = 0;

	(void)state;
	while (in(LSR)&EMPTY) {
		out(THR, 'x');
		assert_true(++sent <= SERIAL_TX_SIZE);
	}
	usleep(30000);
	assert_int_equal(in(LSR)&EMPTY, 0);
	assert_false(serial_drain(t.s, 1));
	assert_int_equal(take(NULL, 16), 16);
	assert_int_equal(in(LSR)&EMPTY, EMPTY);
	serial_free(t.s);

	make(5);
	for (sent = 0; in(LSR)&EMPTY; sent++)
		out(THR, 'x');
	usleep(50000);
	assert_int_equal(in(LSR)&EMPTY, EMPTY);
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(in(LSR)&EMPTY, EMPTY);
		out(THR, 'y');
		sent++;
	}
	assert_int_equal(serial_dropped(t.s), sent - SERIAL_TX_SIZE);
	/* An interrupt-driven writer loses nothing even now. */
	out(IER, THRI);
	assert_int_equal(in(LSR)&EMPTY, 0);
	assert_int_equal(in(IIR), 0x01);
	assert_int_equal(edges(), 0);
	log_setup(LOG_LEVEL_ERROR, -1);
	assert_int_equal(take(NULL, 2 * SERIAL_TX_SIZE), SERIAL_TX_SIZE);
	log_setup(LOG_LEVEL_WARN, -1);
	assert_int_equal(edges(), 1);
	assert_int_equal(t.seen, SERIAL_TX_SIZE);
	assert_int_equal(in(IIR), 0x02);
}

/*
 * A driver like Linux's 8250 against a reader of moods: between any two register accesses the loop may take turns and
 * the reader may take any part. The driver acts on edges only. TOTAL bytes go each way.
 */
static struct {
	unsigned seed;
	bool stingy; /* one IIR read per edge, unlike Linux, which asks until there is nothing */
	unsigned mood;
	const uint8_t *piece;
	size_t len;
	size_t in_host, in_guest, out_guest, out_host;
} d;

static unsigned rnd(unsigned below)
{
	d.seed = d.seed * 1103515245 + 12345;
	return (d.seed >> 8) % below;
}

/* Bytes of position i in both directions. */
static uint8_t pattern(size_t i)
{
	return (uint8_t)(i * 7 + i / 251);
}

static void host_step(void)
{
	uint16_t chars[32];
	size_t n, room;

	if (!d.len)
		d.len = serial_tx_peek(t.s, &d.piece, 1 + rnd(4096));
	if (d.len && rnd(d.mood) == 0) {
		n = rnd((unsigned)d.len + 1);
		for (size_t i = 0; i < n; i++)
			assert_int_equal(d.piece[i], pattern(d.out_host + i));
		d.out_host += n;
		d.len = 0;
		serial_tx_done(t.s, n);
	}
	room = serial_rx_room(t.s);
	n = room < 32 ? room : 32;
	if (n > TOTAL - d.in_host)
		n = TOTAL - d.in_host;
	for (size_t i = 0; i < n; i++)
		chars[i] = pattern(d.in_host + i);
	if (n && rnd(4) == 0)
		d.in_host += serial_rx_push(t.s, chars, n);
}

static void world(void)
{
	switch (rnd(8)) {
	case 0:
		turn();
		break;
	case 1:
		host_step();
		break;
	case 2:
		if (rnd(4096) == 0)
			d.mood = rnd(2) ? 1 : 3000;
		break;
	}
}

static uint8_t win(unsigned reg)
{
	world();
	return in(reg);
}

static void wout(unsigned reg, uint8_t value)
{
	world();
	out(reg, value);
}

/* serial8250_handle_irq */
static bool driver_handle(void)
{
	uint8_t lsr;
	unsigned max = 256;

	if (win(IIR) & 1)
		return false;
	lsr = win(LSR);
	while ((lsr & (DR | BI)) && max--) {
		assert_int_equal(win(RBR), pattern(d.in_guest));
		d.in_guest++;
		lsr = win(LSR);
	}
	win(MSR);
	if ((lsr & 0x20) && (win(IER) & THRI)) {
		for (int i = 0; i < 16 && d.out_guest < TOTAL; i++)
			wout(THR, pattern(d.out_guest++));
		if (d.out_guest == TOTAL)
			wout(IER, RDI | RLSI); /* stop_tx */
	}
	return true;
}

static void drive(unsigned seed, bool stingy)
{
	unsigned idle = 0;

	make(NEVER_MS);
	memset(&d, 0, sizeof(d));
	d.seed = seed;
	d.stingy = stingy;
	d.mood = 1;
	open_port();
	wout(IER, RDI | RLSI | THRI);
	while (d.out_host < TOTAL || d.in_guest < TOTAL) {
		if (atomic_exchange(&t.irqs, 0)) {
			while (driver_handle() && !d.stingy)
				;
			idle = 0;
		} else {
			world();
			host_step();
			assert_true(++idle < 1000000); /* else an edge or a wake-up was lost */
		}
		/* printk now and then: IER off and on around polled output. Not among bytes that are compared. */
		if (rnd(64) == 0) {
			uint8_t ier = win(IER);

			wout(IER, 0);
			win(LSR);
			wout(IER, ier);
		}
	}
	assert_int_equal(d.out_guest, TOTAL);
	assert_int_equal(t.seen, TOTAL);
	assert_int_equal(serial_dropped(t.s), 0);
	assert_int_equal(t.first_output, 1);
	serial_free(t.s);
	t.s = NULL;
}

static void test_a_driver_like_linux(void **state)
{
	(void)state;
	drive(1, false);
	drive(2, false);
}

static void test_a_driver_that_asks_once(void **state)
{
	(void)state;
	drive(3, true);
	drive(4, true);
}

/* Any bytes at any register: nothing to compare, but the sanitizers and asserts look. */
static void test_random_accesses(void **state)
{
	uint8_t data[8];

	(void)state;
	d.seed = 5;
	for (unsigned i = 0; i < 2000000; i++) {
		unsigned len = 1U << rnd(4), reg = rnd(SERIAL_PORTS);
		const uint16_t chars[] = { (uint16_t)rnd(0x101) };

		for (unsigned j = 0; j < 8; j++)
			data[j] = (uint8_t)rnd(256);
		serial_access(t.s, reg, rnd(2), data, len);
		if (rnd(16) == 0)
			turn();
		if (rnd(16) == 0)
			serial_rx_push(t.s, chars, 1);
		if (rnd(1000) == 0)
			take(NULL, rnd(SERIAL_TX_SIZE));
	}
	while (turn() || take(NULL, SERIAL_TX_SIZE))
		;
	assert_true(serial_drain(t.s, 0));
}

/* Two vCPUs write and read at once while the loop's thread serves; for ThreadSanitizer, and for lost wake-ups. */
static atomic_bool threads_end;

static void *vcpu_thread(void *arg)
{
	unsigned n = *(unsigned *)arg;

	for (unsigned i = 0; i < n; i++) {
		while (!(in(LSR)&EMPTY))
			;
		out(THR, 'v');
		if (i % 64 == 0) {
			out(IER, i % 128 ? 0x0f : 0);
			in(IIR);
			in(RBR);
		}
	}
	return NULL;
}

static void *loop_thread(void *arg)
{
	struct pollfd p = { .fd = t.fd, .events = POLLIN };

	(void)arg;
	while (!threads_end) {
		const uint16_t chars[] = { 'r' };
		uint64_t count;

		/* As the real loop: asleep until it is signalled. */
		if (poll(&p, 1, 10) != 1)
			continue;
		if (read(t.fd, &count, sizeof(count)) != sizeof(count))
			break;
		t.watch->fire(t.watch);
		serial_rx_push(t.s, chars, 1);
		take(NULL, SERIAL_TX_SIZE);
	}
	return NULL;
}

static void test_threads(void **state)
{
	unsigned n = 100000;
	pthread_t vcpu[2], loop;

	(void)state;
	threads_end = false;
	assert_int_equal(pthread_create(&loop, NULL, loop_thread, NULL), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&vcpu[i], NULL, vcpu_thread, &n), 0);
	for (int i = 0; i < 2; i++)
		pthread_join(vcpu[i], NULL);
	assert_true(serial_drain(t.s, 5000));
	threads_end = true;
	pthread_join(loop, NULL);
	/* LSR is asked by two and answered for a FIFO's worth: nothing can be lost. */
	assert_int_equal(t.seen, 2 * n);
	assert_int_equal(serial_dropped(t.s), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_reset_values),
		TEST(test_linux_probe_finds_a_16550a),
		TEST(test_divisor_latch),
		TEST(test_thri_shows_at_once_and_again),
		TEST(test_one_edge_per_fifo_of_output),
		TEST(test_polled_output),
		TEST(test_input),
		TEST(test_input_before_open_is_kept),
		TEST(test_polled_input),
		TEST(test_input_is_bounded_and_wakes),
		TEST(test_flow_control_by_rts),
		TEST(test_break_then_key),
		TEST(test_loopback),
		TEST(test_modem_lines),
		TEST(test_priorities),
		TEST(test_wide_accesses_are_bytes),
		TEST(test_stalled_reader_holds_an_interrupt_driven_guest),
		TEST(test_stalled_reader_drops_polled_output),
		cmocka_unit_test(test_a_driver_like_linux),
		cmocka_unit_test(test_a_driver_that_asks_once),
		TEST(test_random_accesses),
		TEST(test_threads),
	};

	alarm(120); /* a lost wake-up shows as a test that does not end */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
