/* The serial port in a snapshot: a new one behaves as the old one did. */
#include "tests/unit/serial_fixture.h"
#include "tests/unit/state_fixture.h"

#include <errno.h>

#include "vmm/base/util.h"

enum { AT_SEEN, AT_IER, AT_FCR, AT_MCR = 4, AT_MSR, AT_OVERRUN = 9, AT_THRE, AT_WAIT, AT_READ, AT_POLLS, AT_RX };

/* The state of the present port, for a new one that takes its place; it is not resumed yet. */
static void saved(void)
{
	serial_save(t.s, state_begin_save());
	state_end_save();
}

static int replaced(struct err *e)
{
	serial_free(t.s);
	make(NEVER_MS);
	serial_hold(t.s);
	assert_int_equal(push("early"), 0); /* it would be lost */
	return serial_restore(t.s, state_of_payload(), e);
}

static void restored(void)
{
	struct err e;

	saved();
	if (replaced(&e) < 0)
		fail_msg("%s", e.text);
}

static void test_registers(void **state)
{
	(void)state;
	open_port();
	out(LCR, 0x83);
	out(DLL, 12);
	out(DLM, 34);
	out(LCR, 0x1b);
	out(MCR, 0x0b);
	out(SCR, 0xa5);
	out(IER, RDI | RLSI | MSI);
	restored();
	serial_resume(t.s);
	assert_int_equal(in(LCR), 0x1b);
	assert_int_equal(in(MCR), 0x0b);
	assert_int_equal(in(SCR), 0xa5);
	assert_int_equal(in(IER), RDI | RLSI | MSI);
	assert_int_equal(in(IIR)&0xc0, 0xc0);
	out(LCR, 0x9b);
	assert_int_equal(in(DLL), 12);
	assert_int_equal(in(DLM), 34);
	out(LCR, 0x1b);
	out(IER, RDI | RLSI); /* no second time mark */
	assert_int_equal(t.opened, 0);
	assert_int_equal(edges(), 0);
}

/* Input that the guest has not read. */
static void test_unread_input(void **state)
{
	(void)state;
	open_port();
	assert_int_equal(push("abc"), 3);
	assert_int_equal(in(RBR), 'a');
	restored();
	assert_int_equal(edges(), 0);
	assert_true(lsr_has(DR));
	assert_int_equal(in(RBR), 'b');
	assert_int_equal(in(RBR), 'c');
	assert_false(lsr_has(DR));
	serial_resume(t.s);
	edges();
	assert_int_equal(push("d"), 1);
	assert_int_equal(edges(), 1);
	assert_int_equal(in(RBR), 'd');
}

/* An edge that was due is raised by the new port; and one that the old port has raised while its state was collected. */
static void test_due_edge(void **state)
{
	uint16_t c = 'x';

	(void)state;
	open_port();
	out(IER, 0);
	pass(SERIAL_RX_PAUSE_MAX_MS * 1000000ULL);
	assert_int_equal(serial_rx_push(t.s, &c, 1), 1);
	out(IER, RDI); /* now it is due: the loop has not turned */
	for (unsigned i = 0; i < 2; i++) {
		restored();
		serial_resume(t.s);
		assert_int_equal(edges(), 1);
		assert_int_equal(in(IIR)&0x0f, 4);
	}
}

/*
 * A driver that waits for THR to be empty gets its interrupt from the new port, whose ring is empty: the output is written
 * by the one that was saved.
 */
static void test_output(void **state)
{
	uint8_t text[8];

	(void)state;
	open_port();
	out(IER, THRI);
	edges();
	for (unsigned i = 0; i < 4; i++)
		out(RBR, (uint8_t)('a' + i));
	restored();
	assert_int_equal(tx_flags(), EMPTY);
	assert_int_equal(take(text, sizeof(text)), 0);
	assert_int_equal(edges(), 0);
	serial_resume(t.s);
	assert_int_equal(edges(), 1);
	assert_int_equal(in(IIR)&0x0f, 2);
	out(RBR, 'z');
	assert_int_equal(take(text, sizeof(text)), 1);
	assert_int_equal(text[0], 'z');
}

static void test_full_ring(void **state)
{
	(void)state;
	open_port();
	out(IER, THRI);
	edges();
	while (in(LSR)&0x20)
		out(RBR, 'x');
	edges();
	restored();
	serial_resume(t.s);
	assert_int_equal(edges(), 1);
	assert_int_equal(tx_flags(), EMPTY);
}

static void test_break_and_loopback(void **state)
{
	const uint16_t brk = SERIAL_BREAK;

	(void)state;
	open_port();
	pass(SERIAL_RX_PAUSE_MAX_MS * 1000000ULL);
	assert_int_equal(serial_rx_push(t.s, &brk, 1), 1);
	out(MCR, 0x1b);
	out(RBR, 'L');
	restored();
	serial_resume(t.s);
	assert_int_equal(in(RBR), 'L');
	out(MCR, 0x0b);
	assert_true(lsr_has(BI | DR));
	assert_int_equal(in(RBR), 0);
}

static void test_hostile(void **state)
{
	static const struct {
		unsigned at, value, bytes;
		const char *names;
	} changes[] = {
		{ AT_SEEN, 4, 1, "time marks" },  { AT_IER, 0x10, 1, "IER" },
		{ AT_FCR, 0x08, 1, "FCR" },	  { AT_MCR, 0x20, 1, "MCR" },
		{ AT_MSR, 0x10, 1, "MSR" },	  { AT_OVERRUN, 2, 1, "overrun" },
		{ AT_THRE, 2, 1, "THR" },	  { AT_WAIT, 2, 1, "THR" },
		{ AT_READ, 2, 1, "IIR" },	  { AT_POLLS, 17, 1, "polls" },
		{ AT_RX, 65, 1, "receive FIFO" }, { AT_RX + 1, 0x101, 2, "FIFO" },
		{ AT_RX + 1, 0x200, 2, "FIFO" },  { AT_RX + 5, 255, 1, "loopback FIFO" },
	};

	(void)state;
	open_port();
	assert_int_equal(push("ab"), 2);
	saved();
	for (unsigned i = 0; i < MF_ARRAY_SIZE(changes); i++) {
		uint8_t good[64];
		struct err e = { 0 };

		memcpy(good, payload, sizeof(good));
		payload_put(changes[i].at, changes[i].value, changes[i].bytes);
		assert_int_equal(replaced(&e), -EINVAL);
		if (!strstr(e.text, changes[i].names))
			fail_msg("'%s' does not name '%s'", e.text, changes[i].names);
		memcpy(payload, good, sizeof(good));
	}
	for (size_t good = payload_len; payload_len > 0;) {
		payload_len--;
		assert_int_equal(replaced(&(struct err){ 0 }), -EINVAL);
		assert_true(payload_len < good);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_registers), TEST(test_unread_input),	     TEST(test_due_edge), TEST(test_output),
		TEST(test_full_ring), TEST(test_break_and_loopback), TEST(test_hostile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
