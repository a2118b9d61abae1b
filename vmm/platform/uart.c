/*
 * The 16550A: registers, interrupts, byte queues.
 *
 * Theory of operation
 *
 * Interrupts. The line is edge-triggered and IIR is computed from the state. `edge` means
 * that the guest must be notified. At its next turn the loop (uart_service) raises the
 * line if a cause is pending then. `edge` is set in three cases:
 *
 * - a cause appears: input, THR empty again after a write, THRI switched on with THR
 *   empty, a modem line;
 * - IER lets a cause through that was pending;
 * - the guest removed one cause and another is left. A real line would stay high and give
 *   no edge, so Linux reads IIR until it is empty. For handlers that do not, one more
 *   edge is sent, but only once per read of IIR.
 *
 * THR empty is latched by the loop, at its turn after a write to THR, so a burst of 16
 * writes costs one signal and about one interrupt. A driver (Linux: tx_loadsz bytes per
 * interrupt, if LSR.THRE) finds room for a whole FIFO or no THRE.
 *
 * Output never blocks a vCPU. The ring takes SERIAL_TX_SIZE bytes. LSR.THRE and TEMT are
 * 0 while it has no room for a FIFO's worth. A driver that waits for its interrupt gets
 * it when half of the ring is free: it loses nothing and waits as on a slow line. A
 * driver that polls (printk; it clears IER meanwhile) sees a full THR during stall_ms
 * without progress. After that THR reads as empty, and its bytes are dropped and counted
 * until there is room. LSR depends on IER.THRI there because a printk in a stall must not
 * make the interrupt-driven half of the same driver lose bytes. Clearing the TX FIFO
 * clears nothing: bytes in the ring count as sent.
 *
 * We never lose input: the host side pushes only what fits. Linux empties the FIFO when
 * it opens the port, and again after it enabled interrupts, when set_termios switches the
 * FIFO on. Input typed or piped ahead would be lost with it. So a FIFO reset drops no
 * host input (it "arrives" right afterwards). Input is shown only while IER.RDI is set,
 * or to a guest that evidently polls (RX_POLLS reads of LSR in a row). A guest with DTR
 * on and RTS off wants none (crtscts). In loopback (MCR bit 4) a FIFO of its own takes
 * THR's bytes, and host input waits. The FIFO is refilled only when it is empty, so a
 * driver that reads until LSR.DR is 0 comes to an end. serial.c decides when it is
 * refilled.
 *
 * Reference: PC16550D data sheet. tests/unit/test_serial.c shows how Linux's 8250 driver
 * probes and drives it.
 */
#include "vmm/platform/uart.h"

#include <linux/serial_reg.h>
#include <time.h>

#include "vmm/base/util.h"
#include "vmm/core/state.h"

#define FIFO_DEPTH 16 /* of a 16550: what a driver writes after it saw LSR.THRE once */
#define RX_POLLS 16   /* reads of LSR in a row, nothing else between, that make a polling guest */

#define IER_MASK 0x0f
#define MCR_MASK 0x1f
#define MSR_LINES (UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS)
#define IIR_FIFO 0xc0

_Static_assert((SERIAL_TX_SIZE & (SERIAL_TX_SIZE - 1)) == 0, "ring positions are masked");
_Static_assert(SERIAL_TX_SIZE >= 4 * FIFO_DEPTH, "half of the ring is more than a FIFO");

/* The coarse clock: read from the vDSO with every clock source, so never a system call on a vCPU thread. */
static uint64_t now_ms(void)
{
	struct timespec ts = { 0 };

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000 + 1;
}

static bool fifo_push(struct uart_fifo *f, uint16_t value)
{
	if (f->len == SERIAL_RX_SIZE)
		return false;
	f->data[(f->head + f->len++) % SERIAL_RX_SIZE] = value;
	return true;
}

size_t uart_tx_room(const struct uart *u)
{
	return SERIAL_TX_SIZE - (u->tx_tail - u->tx_head);
}

static bool thr_has_room(const struct uart *u)
{
	return uart_tx_room(u) >= FIFO_DEPTH || (u->mcr & UART_MCR_LOOP);
}

/* The FIFO that the guest reads from, or NULL while input is not shown to it. */
static struct uart_fifo *rx_shown(struct uart *u)
{
	if (u->mcr & UART_MCR_LOOP)
		return &u->loop;
	return (u->ier & UART_IER_RDI) || u->lsr_polls >= RX_POLLS ? &u->rx : NULL;
}

static bool rx_is_break(const struct uart_fifo *f)
{
	return f && f->len && (f->data[f->head] & SERIAL_BREAK);
}

/* The pending cause of the highest priority, or UART_IIR_NO_INT. */
static uint8_t uart_cause(struct uart *u)
{
	const struct uart_fifo *f = rx_shown(u);

	if ((u->ier & UART_IER_RLSI) && (u->overrun || rx_is_break(f)))
		return UART_IIR_RLSI;
	if ((u->ier & UART_IER_RDI) && f && f->len)
		return UART_IIR_RDI;
	if ((u->ier & UART_IER_THRI) && u->thre)
		return UART_IIR_THRI;
	if ((u->ier & UART_IER_MSI) && u->msr_delta)
		return UART_IIR_MSI;
	return UART_IIR_NO_INT;
}

/* A cause was taken away. Returns signal, as do the functions below. */
static bool uart_acked(struct uart *u)
{
	if (!u->iir_read || uart_cause(u) == UART_IIR_NO_INT)
		return false;
	u->iir_read = false;
	u->edge = true;
	return true;
}

static bool thr_write(struct uart *u, uint8_t byte)
{
	bool signal;

	if (u->mcr & UART_MCR_LOOP) {
		if (!fifo_push(&u->loop, byte))
			u->overrun = true;
		u->thre = true;
		u->edge = true;
		return uart_cause(u) != UART_IIR_NO_INT;
	}
	u->thre = false;
	if (uart_tx_room(u) > 0)
		u->tx[u->tx_tail++ % SERIAL_TX_SIZE] = byte;
	else
		u->dropped++;
	if (uart_tx_room(u) < FIFO_DEPTH && !u->full_since_ms)
		u->full_since_ms = now_ms();
	/*
	 * A write under way comes back to the ring by itself, and so does a look that is due. A
	 * driver that waits for its interrupt cannot wait for either, and a full ring not for a look.
	 */
	signal = (!u->tx_busy && (!u->tx_due || uart_tx_room(u) < SERIAL_TX_SIZE / 2)) ||
		 ((u->ier & UART_IER_THRI) && !u->thre_wait);
	u->thre_wait = true;
	return signal;
}

static bool thr_empty(struct uart *u)
{
	if (thr_has_room(u))
		return true;
	if (!u->full_since_ms)
		u->full_since_ms = now_ms();
	return !(u->ier & UART_IER_THRI) && now_ms() - u->full_since_ms > u->stall_ms;
}

static bool rbr_read(struct uart *u, uint8_t *ret)
{
	struct uart_fifo *f = rx_shown(u);
	bool signal;

	*ret = 0;
	if (!f || !f->len)
		return false;
	*ret = (uint8_t)f->data[f->head];
	f->head = (f->head + 1) % SERIAL_RX_SIZE;
	f->len--;
	signal = uart_acked(u);
	if (u->rx_wanted && f == &u->rx && !f->len) {
		u->rx_wanted = false;
		signal = true;
	}
	return signal;
}

static bool ier_write(struct uart *u, uint8_t value)
{
	uint8_t added;

	value &= IER_MASK;
	added = value & ~u->ier;
	u->ier = value;
	if (added & UART_IER_THRI) {
		u->thre = thr_has_room(u);
		u->thre_wait = !u->thre;
	}
	if (!added || uart_cause(u) == UART_IIR_NO_INT)
		return false;
	u->edge = true;
	return true;
}

static uint8_t iir_read(struct uart *u, bool *signal)
{
	uint8_t cause = uart_cause(u);

	u->iir_read = true;
	if (cause == UART_IIR_THRI) {
		u->thre = false;
		*signal = uart_acked(u);
	}
	return cause | (u->fcr & UART_FCR_ENABLE_FIFO ? IIR_FIFO : 0);
}

static void fcr_write(struct uart *u, uint8_t value)
{
	/* Host input is not dropped, see above; what the guest sent itself in loopback is. */
	if ((value & UART_FCR_CLEAR_RCVR) || ((value ^ u->fcr) & UART_FCR_ENABLE_FIFO))
		u->loop.len = 0;
	u->fcr = value & (UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_MASK);
}

static uint8_t msr_lines(const struct uart *u)
{
	uint8_t lines = 0;

	if (!(u->mcr & UART_MCR_LOOP))
		return MSR_LINES;
	if (u->mcr & UART_MCR_RTS)
		lines |= UART_MSR_CTS;
	if (u->mcr & UART_MCR_DTR)
		lines |= UART_MSR_DSR;
	if (u->mcr & UART_MCR_OUT1)
		lines |= UART_MSR_RI;
	if (u->mcr & UART_MCR_OUT2)
		lines |= UART_MSR_DCD;
	return lines;
}

static bool mcr_write(struct uart *u, uint8_t value)
{
	uint8_t before = msr_lines(u), changed;

	if (!((u->mcr ^ value) & MCR_MASK))
		return false;
	if ((u->mcr ^ value) & UART_MCR_LOOP)
		u->loop.len = 0;
	u->mcr = value & MCR_MASK;
	changed = before ^ msr_lines(u);
	/* Lines are bits 4 to 7 (CTS DSR RI DCD), their changes bits 0 to 3; RI counts when it falls. */
	u->msr_delta |= (uint8_t)(changed >> 4) & (UART_MSR_ANY_DELTA & ~UART_MSR_TERI);
	if (changed & before & UART_MSR_RI)
		u->msr_delta |= UART_MSR_TERI;
	/* The host side may push again when loopback ends or RTS comes on, and the other FIFO may hold a cause. */
	u->edge = true;
	return true;
}

static uint8_t lsr_read(struct uart *u, bool *signal)
{
	struct uart_fifo *f = rx_shown(u);
	uint8_t value = 0;

	if (thr_empty(u))
		value |= UART_LSR_THRE | UART_LSR_TEMT;
	if (f && f->len)
		value |= UART_LSR_DR;
	if (rx_is_break(f)) {
		value |= UART_LSR_BI;
		f->data[f->head] = 0;
	}
	if (u->overrun)
		value |= UART_LSR_OE;
	u->overrun = false;
	if (value & UART_LSR_BRK_ERROR_BITS)
		*signal = uart_acked(u);
	return value;
}

/*
 * Distinguishes a guest that polls for input from one that reads LSR now and then, or
 * that reinitialises the port.
 */
static void note_polls(struct uart *u, bool is_write, unsigned reg)
{
	if (!u->rx.len)
		u->rx_looked = true;
	if (is_write && (reg == UART_IER || reg == UART_FCR))
		u->lsr_polls = 0;
	else if (u->lsr_polls < RX_POLLS)
		u->lsr_polls = !is_write && reg == UART_LSR ? u->lsr_polls + 1 : 0;
}

bool uart_write(struct uart *u, unsigned reg, uint8_t value)
{
	bool dlab = u->lcr & UART_LCR_DLAB;

	note_polls(u, true, reg);
	switch (reg) {
	case UART_TX:
		if (!dlab)
			return thr_write(u, value);
		u->dll = value;
		return false;
	case UART_IER:
		if (!dlab)
			return ier_write(u, value);
		u->dlm = value;
		return false;
	case UART_FCR:
		fcr_write(u, value);
		return false;
	case UART_LCR:
		u->lcr = value;
		return false;
	case UART_MCR:
		return mcr_write(u, value);
	case UART_SCR:
		u->scr = value;
		return false;
	default: /* LSR and MSR are read-only */
		return false;
	}
}

bool uart_read(struct uart *u, unsigned reg, uint8_t *ret)
{
	bool dlab = u->lcr & UART_LCR_DLAB, signal = false;

	note_polls(u, false, reg);
	switch (reg) {
	case UART_RX:
		if (!dlab)
			return rbr_read(u, ret);
		*ret = u->dll;
		break;
	case UART_IER:
		*ret = dlab ? u->dlm : u->ier;
		break;
	case UART_IIR:
		*ret = iir_read(u, &signal);
		break;
	case UART_LCR:
		*ret = u->lcr;
		break;
	case UART_MCR:
		*ret = u->mcr;
		break;
	case UART_LSR:
		*ret = lsr_read(u, &signal);
		break;
	case UART_MSR:
		*ret = msr_lines(u) | u->msr_delta;
		u->msr_delta = 0;
		return uart_acked(u);
	default:
		*ret = u->scr;
		break;
	}
	return signal;
}

bool uart_service(struct uart *u)
{
	bool raise;

	if (u->thre_wait && uart_tx_room(u) >= SERIAL_TX_SIZE / 2) {
		u->thre_wait = false;
		u->thre = true;
		u->edge = true;
	}
	raise = u->edge && uart_cause(u) != UART_IIR_NO_INT;
	u->edge = false;
	return raise;
}

void uart_tx_consume(struct uart *u, size_t len)
{
	u->tx_head += len;
	if (u->tx_head == u->tx_tail)
		u->tx_head = u->tx_tail = 0;
	if (len)
		u->full_since_ms = 0;
}

size_t uart_rx_room(struct uart *u)
{
	bool flow_stop = (u->mcr & (UART_MCR_DTR | UART_MCR_RTS)) == UART_MCR_DTR;
	size_t room = flow_stop || (u->mcr & UART_MCR_LOOP) || u->rx.len ? 0 : SERIAL_RX_SIZE;

	if (!room)
		u->rx_wanted = true;
	return room;
}

size_t uart_rx_push(struct uart *u, const uint16_t *chars, size_t num)
{
	size_t n = MF_MIN(num, uart_rx_room(u));

	for (size_t i = 0; i < n; i++)
		fifo_push(&u->rx, chars[i]);
	if (n) {
		u->edge = true;
		u->rx_looked = false;
	}
	if (n < num)
		u->rx_wanted = true;
	return n;
}

static void fifo_save(const struct uart_fifo *f, struct state_out *out)
{
	state_put_u8(out, (uint8_t)f->len);
	for (unsigned i = 0; i < f->len; i++)
		state_put_u16(out, f->data[(f->head + i) % SERIAL_RX_SIZE]);
}

static void fifo_restore(struct uart_fifo *f, struct state_in *in, const char *why)
{
	unsigned len = state_get_u8(in);

	if (len > SERIAL_RX_SIZE)
		state_refuse(in, why);
	for (unsigned i = 0; i < len && !in->why; i++) {
		f->data[i] = state_get_u16(in);
		if (f->data[i] > UINT8_MAX && f->data[i] != SERIAL_BREAK)
			state_refuse(in, why);
	}
	f->len = in->why ? 0 : len;
}

void uart_save(const struct uart *u, struct state_out *out)
{
	const uint8_t value[] = {
		u->ier,	    u->fcr,  u->lcr,	   u->mcr,	u->msr_delta,	      u->scr, u->dll, u->dlm,
		u->overrun, u->thre, u->thre_wait, u->iir_read, (uint8_t)u->lsr_polls
	};

	state_put_bytes(out, value, sizeof(value));
	fifo_save(&u->rx, out);
	fifo_save(&u->loop, out);
}

/* A register, of which only these bits exist. */
static uint8_t get_bits(struct state_in *in, uint8_t mask, const char *why)
{
	uint8_t value = state_get_u8(in);

	if (value & ~mask)
		state_refuse(in, why);
	return value;
}

void uart_restore(struct uart *u, struct state_in *in)
{
	u->ier = get_bits(in, IER_MASK, "IER");
	u->fcr = get_bits(in, UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_MASK, "FCR");
	u->lcr = state_get_u8(in);
	u->mcr = get_bits(in, MCR_MASK, "MCR");
	u->msr_delta = get_bits(in, UART_MSR_ANY_DELTA, "MSR");
	u->scr = state_get_u8(in);
	u->dll = state_get_u8(in);
	u->dlm = state_get_u8(in);
	u->overrun = get_bits(in, 1, "overrun");
	u->thre = get_bits(in, 1, "THR empty");
	u->thre_wait = get_bits(in, 1, "wait for THR empty");
	u->iir_read = get_bits(in, 1, "IIR read");
	u->lsr_polls = state_get_u8(in);
	if (u->lsr_polls > RX_POLLS)
		state_refuse(in, "polls of LSR");
	fifo_restore(&u->rx, in, "receive FIFO");
	fifo_restore(&u->loop, in, "loopback FIFO");
	u->edge = true; /* once too often rather than never */
}
