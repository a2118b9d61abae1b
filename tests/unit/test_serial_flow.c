/* The serial port under load: slow and absent readers, a driver against any schedule, hostile accesses, threads. */
#include "tests/unit/serial_fixture.h"
#include "vmm/base/util.h"

#define TOTAL (1 << 20)

/* An interrupt-driven guest and a reader that stalls: it waits, without limit, and continues at half. */
static void test_stalled_reader_holds_an_interrupt_driven_guest(void **state)
{
	size_t sent = 0, half;

	(void)state;
	serial_free(t.s);
	make(0);
	out(IER, THRI);
	while (edges()) {
		assert_int_equal(in(IIR), 0x02);
		while ((tx_flags()) && sent < 2 * SERIAL_TX_SIZE) {
			out(THR, (uint8_t)sent++);
			if (sent % 16 == 0)
				break;
		}
	}
	assert_true(sent >= SERIAL_TX_SIZE / 2 && sent <= SERIAL_TX_SIZE);
	while (tx_flags())
		out(THR, (uint8_t)sent++);
	usleep(30000);
	assert_int_equal(tx_flags(), 0);
	assert_int_equal(edges(), 0);
	assert_int_equal(serial_dropped(t.s), 0);
	half = sent - SERIAL_TX_SIZE / 2;
	take(NULL, half - 1);
	assert_int_equal(edges(), 0);
	take(NULL, 1);
	assert_int_equal(edges(), 1);
	assert_int_equal(tx_flags(), EMPTY);
	assert_int_equal(t.seen, sent);
}

/* A polling guest and a reader that stands still: told to wait at first, then its bytes are dropped and counted. */
static void test_stalled_reader_drops_polled_output(void **state)
{
	size_t sent = 0;

	(void)state;
	out(THR, 'x');
	while (tx_flags()) {
		for (int i = 0; i < 16; i++)
			out(THR, 'x'); /* after one look, as Linux does */
		sent += 16;
		assert_true(sent <= SERIAL_TX_SIZE);
	}
	assert_int_equal(serial_dropped(t.s), 0);
	usleep(30000);
	assert_int_equal(tx_flags(), 0);
	assert_false(serial_drain(t.s, 1));
	assert_int_equal(take(NULL, 16), 16);
	assert_int_equal(tx_flags(), EMPTY);
	serial_free(t.s);

	make(5);
	for (sent = 0; tx_flags(); sent++)
		out(THR, 'x');
	usleep(50000);
	assert_int_equal(tx_flags(), EMPTY);
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(tx_flags(), EMPTY);
		out(THR, 'y');
		sent++;
	}
	assert_int_equal(serial_dropped(t.s), sent - SERIAL_TX_SIZE);
	/* An interrupt-driven writer loses nothing even now. */
	out(IER, THRI);
	assert_int_equal(tx_flags(), 0);
	assert_int_equal(in(IIR), 0x01);
	assert_int_equal(edges(), 0);
	log_setup(LOG_LEVEL_ERROR, -1);
	assert_int_equal(take(NULL, 2 * SERIAL_TX_SIZE), SERIAL_TX_SIZE);
	log_setup(LOG_LEVEL_WARN, -1);
	assert_int_equal(edges(), 1);
	assert_int_equal(t.seen, SERIAL_TX_SIZE);
	assert_int_equal(in(IIR), 0x02);
}

/* A reader that takes nothing does not restart the time. */
static void test_no_progress_is_a_stall(void **state)
{
	const uint8_t *data;

	(void)state;
	serial_free(t.s);
	make(50);
	while (tx_flags())
		out(THR, 'x');
	usleep(100000);
	assert_true(serial_tx_peek(t.s, &data, 16) > 0);
	serial_tx_done(t.s, 0);
	assert_int_equal(tx_flags(), EMPTY);
}

static void *late_reader(void *arg)
{
	(void)arg;
	usleep(50000);
	while (turn() || take(NULL, SERIAL_TX_SIZE))
		;
	return NULL;
}

/* The end of the output ends the wait for it, or this takes ten minutes, and has two. */
static void test_drain_is_woken(void **state)
{
	pthread_t loop;

	(void)state;
	out(THR, 'x');
	assert_int_equal(pthread_create(&loop, NULL, late_reader, NULL), 0);
	assert_true(serial_drain(t.s, 600000));
	pthread_join(loop, NULL);
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
	uint16_t chars[100];
	size_t n;

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
	n = MF_MIN(sizeof(chars) / sizeof(chars[0]), TOTAL - d.in_host);
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
		pass(rnd(100000));
		break;
	case 3:
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
		if (rnd(16) == 0)
			pass(rnd(100000));
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
		while (!(tx_flags()))
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
		pass(SERIAL_RX_BYTE_NS);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_stalled_reader_holds_an_interrupt_driven_guest),
		TEST(test_stalled_reader_drops_polled_output),
		TEST(test_no_progress_is_a_stall),
		TEST(test_drain_is_woken),
		cmocka_unit_test(test_a_driver_like_linux),
		cmocka_unit_test(test_a_driver_that_asks_once),
		TEST(test_random_accesses),
		TEST(test_threads),
	};

	alarm(120); /* a lost wake-up shows as a test that does not end */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
