/* The serial port's registers and edges, as Linux's 8250 driver uses them. */
#include "tests/unit/serial_fixture.h"

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
		assert_int_equal(tx_flags(), EMPTY);
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
	out(THR, 0xff); /* as a read of IIR does, a write takes the cause away */
	assert_int_equal(in(IIR), 0x01);
	assert_int_equal(edges(), 1);
	assert_int_equal(take(NULL, 1), 1);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(in(IIR), 0x02);
		for (int j = 0; j < 16; j++)
			out(THR, (uint8_t)(16 * i + j));
		assert_int_equal(in(IIR), 0x01); /* empty again only when the loop says so */
		assert_int_equal(edges(), 1);
	}
	assert_int_equal(t.first_output, 1);
	assert_int_equal(t.seen, 1 + 64);
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
	assert_int_equal(push("typed ahead"), 11);
	open_port();
	assert_int_equal(edges(), 1);
	for (const char *p = "typed ahead"; *p; p++) {
		assert_int_equal(in(LSR), EMPTY | DR);
		assert_int_equal(in(RBR), *p);
	}
	assert_int_equal(in(LSR), EMPTY);
}

static void test_divisor_is_no_event(void **state)
{
	(void)state;
	out(LCR, 0x83);
	out(DLM, RDI);
	out(DLL, 1);
	out(LCR, 0x03);
	assert_int_equal(t.opened, 0);
	out(IER, THRI);
	out(LCR, 0x83);
	out(DLL, 12);
	assert_int_equal(t.first_output, 0);
	out(LCR, 0x03);
	out(THR, 'x');
	assert_int_equal(t.first_output, 1);
}

/* Of a wide access, what is behind the last register is not the port's. */
static void test_wide_access(void **state)
{
	uint8_t data[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };

	(void)state;
	out(SCR, 0x5a);
	serial_access(t.s, MSR, false, data, 8);
	assert_int_equal(data[1], 0x5a);
	for (uint8_t i = 2; i < 8; i++)
		assert_int_equal(data[i], i + 1);
}

static void switch_on_thri(void)
{
	out(IER, THRI);
}

/* Work that a vCPU leaves while the loop is at work is signalled again. */
static void test_work_left_during_a_turn(void **state)
{
	(void)state;
	out(THR, 'x');
	t.while_shown = switch_on_thri;
	assert_true(turn());
	t.while_shown = NULL;
	t.irqs = 0;
	assert_true(turn());
	assert_int_equal(t.irqs, 1);
}

static void test_polled_input(void **state)
{
	unsigned polls = 0;

	(void)state;
	out(FCR, 0xc7);
	push("k");
	while (!(lsr_has(DR)))
		assert_true(++polls < 100);
	assert_int_equal(in(RBR), 'k');
	push("l");
	assert_int_equal(in(LSR), EMPTY | DR);
	assert_int_equal(in(RBR), 'l');
	assert_int_equal(edges(), 0);
	/* A driver that sets the port up is to find input after that, not before. */
	push("m");
	out(FCR, 0xc7);
	assert_int_equal(in(LSR), EMPTY);
}

static void test_flow_control_by_rts(void **state)
{
	(void)state;
	open_port();
	edges();
	out(MCR, 0x09);
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
	assert_int_equal(push("more"), 0);
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
	assert_int_equal(in(RBR), 'o');
	assert_int_equal(in(RBR), 's');
	assert_int_equal(in(RBR), 't');
	assert_false(lsr_has(DR));
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
	out(MCR, 0x1f);
	assert_int_equal(in(MSR), 0xf0); /* that it rises is no event */
	out(MCR, 0x1b);
	assert_int_equal(in(MSR), 0xb4);
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
	assert_true(lsr_has(BI));
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
		TEST(test_divisor_is_no_event),
		TEST(test_wide_access),
		TEST(test_work_left_during_a_turn),
		TEST(test_polled_input),
		TEST(test_flow_control_by_rts),
		TEST(test_break_then_key),
		TEST(test_loopback),
		TEST(test_modem_lines),
		TEST(test_priorities),
		TEST(test_wide_accesses_are_bytes),
	};

	alarm(120); /* a lost wake-up shows as a test that does not end */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
