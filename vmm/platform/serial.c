/*
 * The serial port: a 16550A (uart.c) between vCPU threads and the loop.
 *
 * Theory of operation
 *
 * vCPU threads access the registers, several at once. The host side and all interrupts
 * belong to the loop: a vCPU thread may later do nothing but KVM_RUN, futexes and eventfd
 * writes. One mutex covers the UART. It is never held across a system call, a callback or
 * the log. A vCPU that leaves work for the loop writes the eventfd, unless a signal is
 * under way already. The loop clears `signalled` under the mutex before it looks. So it
 * sees work left before that, and work left after it signals again.
 *
 *	guest  OUT THR -> uart.tx -> eventfd -> serial_fire: output, wake -> console: serial_tx_peek, write, _done
 *	host   read -> serial_rx_push -> uart.rx -> ops->raise -> guest IN RBR -> (if more waits) eventfd -> wake
 *
 * A piece of output between serial_tx_peek and serial_tx_done stays in place: the guest
 * writes to free room only, and nothing else moves the head. While a piece is being
 * written, output needs no signals: serial_tx_done comes, and the console looks again.
 *
 * Output comes in bursts, and a signal for each byte would cost a wake-up of the loop. So
 * when the loop has found output, it looks again SERIAL_TX_LOOK_NS later, by a timer, and
 * bytes that come meanwhile need no signal (uart.tx_due). The first byte after a pause
 * appears at once. When a look finds nothing, the timer stays off.
 *
 * Input has a speed, as on a line. A driver's interrupt handler reads until LSR.DR is 0
 * (Linux: 256 bytes a round, 512 rounds). If the FIFO were refilled as fast as it is
 * read, the handler would never end, and nothing else would run in the guest, not even
 * its flow control. So the next bytes come SERIAL_RX_BYTE_NS later for each of the last
 * ones. If they waited for the guest, a pause follows that is as long as the guest took:
 * however slow its exits are, it has half of its time for other work. A vCPU may stand
 * still over that pause, on a busy machine: until it has used the port again, and so has
 * seen the end, the pause lasts SERIAL_RX_PAUSE_MAX_MS. The divisor latch
 * is ignored, since Linux leaves it at 9,600 baud by default. The timer of the pause is
 * set only while input waits.
 */
#include "vmm/platform/serial.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/serial_reg.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/core/loop.h"
#include "vmm/core/state.h"
#include "vmm/core/timer.h"
#include "vmm/platform/uart.h"

struct serial {
	const struct serial_ops *ops;
	void *ctx;
	const struct serial_host *host; /* or NULL */
	void *host_ctx;
	int eventfd;
	struct watch watch;
	struct loop *loop;

	bool drop_logged; /* the loop's, as are those of input */
	struct timer tx_look;
	struct timer rx_pause;
	bool rx_behind;	       /* there was more, and the guest had not read the last */
	uint64_t rx_filled_ns; /* when the guest got the last */
	uint64_t rx_due_ns;    /* when it may get more; */
	uint64_t rx_late_ns;   /* if it has not used the port since it read the last, when */

	pthread_mutex_t lock;	/* all below */
	pthread_cond_t drained; /* the ring is empty */
	bool signalled;		/* the eventfd was written and the loop has not looked yet */
	bool seen_open, seen_output;
	bool held;  /* no input is taken */
	size_t tap; /* ring position up to which host->output has seen the output */
	struct uart uart;
};

static void serial_lock(struct serial *s)
{
	int r = pthread_mutex_lock(&s->lock);

	assert(r == 0);
	(void)r; /* a plain mutex in our own memory: it cannot fail */
}

static void serial_unlock(struct serial *s)
{
	int r = pthread_mutex_unlock(&s->lock);

	assert(r == 0);
	(void)r; /* as above */
}

/* Locked. Returns whether the caller, once it has unlocked, must write the eventfd. */
static bool serial_want_turn(struct serial *s)
{
	bool first = !s->signalled;

	s->signalled = true;
	return first;
}

/*
 * Locked. The events of the guest's write to reg, apart from its effect: a set of 1 <<
 * event.
 */
static unsigned serial_note(struct serial *s, unsigned reg, uint8_t value)
{
	if (s->uart.lcr & UART_LCR_DLAB)
		return 0;
	/* Linux's probe writes all four enable bits to see whether they stick; opening the port leaves THRI off. */
	if (reg == UART_IER && !s->seen_open && (value & UART_IER_RDI) && !(value & UART_IER_THRI)) {
		s->seen_open = true;
		return 1U << SERIAL_EVENT_OPENED;
	}
	if (reg == UART_TX && !s->seen_output && (s->uart.ier & UART_IER_THRI)) {
		s->seen_output = true;
		return 1U << SERIAL_EVENT_OUTPUT;
	}
	return 0;
}

static void serial_access_reg(struct serial *s, unsigned reg, bool is_write, uint8_t *data)
{
	unsigned events = 0;
	bool signal;

	serial_lock(s);
	if (is_write) {
		events = serial_note(s, reg, *data);
		signal = uart_write(&s->uart, reg, *data);
	} else {
		signal = uart_read(&s->uart, reg, data);
	}
	signal = signal && serial_want_turn(s);
	serial_unlock(s);
	if (signal)
		fdio_event_signal(s->eventfd);
	if (events && s->ops->event)
		s->ops->event(s->ctx, events & 1U << SERIAL_EVENT_OPENED ? SERIAL_EVENT_OPENED : SERIAL_EVENT_OUTPUT);
}

void serial_access(void *ctx, uint64_t offset, bool is_write, uint8_t *data, unsigned len)
{
	/* An 8-bit device: the bus makes several accesses of a wide one. */
	for (unsigned i = 0; i < len && offset + i < SERIAL_PORTS; i++)
		serial_access_reg(ctx, (unsigned)offset + i, is_write, &data[i]);
}

/* Locked. The output from position from on, as far as it is in one piece. */
static size_t serial_piece(const struct serial *s, size_t from, size_t to, const uint8_t **ret)
{
	size_t at = from % SERIAL_TX_SIZE;

	*ret = &s->uart.tx[at];
	return MF_MIN(to - from, SERIAL_TX_SIZE - at);
}

/*
 * Shows new output to host->output. It stays in place meanwhile: only the loop, which is here,
 * takes it away. Returns whether there was any.
 */
static bool serial_show_output(struct serial *s)
{
	const uint8_t *data;
	bool any = false;
	size_t len;

	for (;;) {
		serial_lock(s);
		len = serial_piece(s, s->tap, s->uart.tx_tail, &data);
		s->tap += len;
		serial_unlock(s);
		if (!len)
			return any;
		any = true;
		if (s->host)
			s->host->output(s->host_ctx, data, len);
	}
}

/* Raises the line if the guest needs an interrupt. */
static void serial_service(struct serial *s)
{
	bool raise;

	serial_lock(s);
	raise = uart_service(&s->uart);
	serial_unlock(s);
	if (raise)
		s->ops->raise(s->ctx);
}

/* Takes new output, and looks again later if there was some. */
static void serial_look(struct serial *s)
{
	struct timers *timers = loop_timers(s->loop);
	bool due = serial_show_output(s);

	serial_lock(s);
	due |= s->tap != s->uart.tx_tail; /* written since, perhaps without a signal */
	s->uart.tx_due = due;
	serial_unlock(s);
	if (due)
		timer_set(timers, &s->tx_look, timers->now_ns + SERIAL_TX_LOOK_NS);
	if (s->host)
		s->host->wake(s->host_ctx);
}

static void serial_look_again(struct timer *timer)
{
	serial_look(MF_CONTAINER_OF(timer, struct serial, tx_look));
}

static void serial_fire(struct watch *watch)
{
	struct serial *s = MF_CONTAINER_OF(watch, struct serial, watch);

	serial_lock(s);
	s->signalled = false;
	serial_unlock(s);
	serial_service(s);
	serial_look(s);
}

void serial_set_host(struct serial *s, const struct serial_host *host, void *ctx)
{
	bool signal;

	s->host = host;
	s->host_ctx = ctx;
	serial_lock(s);
	signal = serial_want_turn(s);
	serial_unlock(s);
	if (signal)
		fdio_event_signal(s->eventfd);
}

size_t serial_tx_peek(struct serial *s, const uint8_t **ret, size_t max)
{
	size_t len;

	serial_show_output(s);
	serial_lock(s);
	assert(!s->uart.tx_busy);
	len = serial_piece(s, s->uart.tx_head, s->tap, ret);
	len = MF_MIN(len, max);
	s->uart.tx_busy = len > 0;
	serial_unlock(s);
	return len;
}

void serial_tx_done(struct serial *s, size_t len)
{
	uint64_t dropped = 0;

	serial_lock(s);
	assert(s->uart.tx_busy && len <= s->tap - s->uart.tx_head);
	s->uart.tx_busy = false;
	uart_tx_consume(&s->uart, len);
	if (!s->uart.tx_tail) {
		s->tap = 0;
		/* No waiter is fine, and a broadcast has no other result. */
		(void)pthread_cond_broadcast(&s->drained);
	}
	if (uart_tx_room(&s->uart) >= SERIAL_TX_SIZE / 2)
		dropped = s->uart.dropped;
	serial_unlock(s);
	if (dropped && !s->drop_logged) {
		s->drop_logged = true;
		log_warn("%" PRIu64 " bytes of guest output were dropped because no reader took them, continuing",
			 dropped);
	}
	serial_service(s);
}

/* Whether input may go to the guest now. If not, the host side is woken when it may. */
static bool serial_rx_is_due(struct serial *s)
{
	struct timers *timers = loop_timers(s->loop);
	uint64_t now_ns = timers->now_ns, took_ns, due_ns;
	bool unread, room, looked;

	serial_lock(s);
	unread = s->uart.rx.len > 0;
	looked = s->uart.rx_looked;
	room = !s->held && uart_rx_room(&s->uart) > 0;
	serial_unlock(s);
	if (!unread && s->rx_behind) {
		took_ns = MF_MIN(now_ns - s->rx_filled_ns, SERIAL_RX_PAUSE_MAX_MS * 1000000ULL);
		s->rx_due_ns = MF_MAX(s->rx_due_ns, now_ns + took_ns);
		s->rx_late_ns = now_ns + SERIAL_RX_PAUSE_MAX_MS * 1000000ULL;
	}
	s->rx_behind = unread;
	if (!room)
		return false;
	due_ns = now_ns >= s->rx_due_ns && !looked ? s->rx_late_ns : s->rx_due_ns;
	if (now_ns >= due_ns)
		return true;
	timer_set(timers, &s->rx_pause, due_ns);
	return false;
}

static void serial_rx_pause_ends(struct timer *timer)
{
	struct serial *s = MF_CONTAINER_OF(timer, struct serial, rx_pause);

	s->host->wake(s->host_ctx); /* there is a host: it has asked for this */
}

size_t serial_rx_push(struct serial *s, const uint16_t *chars, size_t num)
{
	size_t taken;

	if (!num || !serial_rx_is_due(s))
		return 0;
	serial_lock(s);
	taken = uart_rx_push(&s->uart, chars, num);
	serial_unlock(s);
	s->rx_filled_ns = loop_timers(s->loop)->now_ns;
	s->rx_due_ns = s->rx_filled_ns + taken * SERIAL_RX_BYTE_NS;
	s->rx_behind = taken < num;
	serial_service(s);
	return taken;
}

bool serial_drain(struct serial *s, unsigned timeout_ms)
{
	const struct timespec until = clock_deadline(timeout_ms);
	bool signal, empty;
	int r = 0;

	serial_lock(s);
	signal = serial_want_turn(s);
	serial_unlock(s);
	if (signal)
		fdio_event_signal(s->eventfd);
	serial_lock(s);
	while (s->uart.tx_tail && r == 0)
		r = pthread_cond_timedwait(&s->drained, &s->lock, &until);
	empty = !s->uart.tx_tail;
	serial_unlock(s);
	return empty;
}

#define SERIAL_STATE_TAG STATE_TAG('u', 'a', 'r', 't')
#define SERIAL_STATE_VERSION 1

const struct state_section serial_section = { SERIAL_STATE_TAG, SERIAL_STATE_VERSION };

void serial_save(struct serial *s, struct state_out *out)
{
	state_begin(out, SERIAL_STATE_TAG, 0, SERIAL_STATE_VERSION);
	serial_lock(s);
	state_put_u8(out, (uint8_t)(s->seen_open | s->seen_output << 1));
	uart_save(&s->uart, out);
	serial_unlock(s);
	state_end(out);
}

int serial_restore(struct serial *s, struct state_in *in, struct err *e)
{
	int r = state_open(in, SERIAL_STATE_TAG, 0, SERIAL_STATE_VERSION, e);
	uint8_t seen;

	if (r < 0)
		return r;
	serial_lock(s);
	seen = state_get_u8(in);
	if (seen > 3)
		state_refuse(in, "time marks");
	s->seen_open = seen & 1;
	s->seen_output = seen & 2;
	uart_restore(&s->uart, in);
	serial_unlock(s);
	return state_close(in, e);
}

void serial_hold(struct serial *s)
{
	s->held = true;
}

void serial_resume(struct serial *s)
{
	bool signal;

	serial_lock(s);
	s->held = false;
	signal = serial_want_turn(s);
	serial_unlock(s);
	if (signal)
		fdio_event_signal(s->eventfd);
}

uint64_t serial_dropped(struct serial *s)
{
	uint64_t dropped;

	serial_lock(s);
	dropped = s->uart.dropped;
	serial_unlock(s);
	return dropped;
}

int serial_event_fd(const struct serial *s)
{
	return s->eventfd;
}

/* The condition variable waits by the monotonic clock. */
static int serial_init_sync(struct serial *s)
{
	pthread_condattr_t attr;
	int r = pthread_condattr_init(&attr);

	if (r == 0) {
		r = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
		if (r == 0)
			r = pthread_cond_init(&s->drained, &attr);
		(void)pthread_condattr_destroy(&attr); /* glibc's holds nothing */
	}
	return r ? r : pthread_mutex_init(&s->lock, NULL);
}

int serial_new(struct serial **ret, struct loop *loop, const struct serial_ops *ops, void *ctx, unsigned stall_ms,
	       struct err *e)
{
	/* Not by calloc, which would touch every page of the ring to clear it. */
	struct serial *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int r;

	if (s == MAP_FAILED)
		return err_set(e, -ENOMEM, "no memory for the serial port");
	s->ops = ops;
	s->ctx = ctx;
	s->loop = loop;
	s->rx_pause.fire = serial_rx_pause_ends;
	s->tx_look.fire = serial_look_again;
	s->uart.stall_ms = stall_ms;
	s->watch.fire = serial_fire;
	s->eventfd = eventfd(0, EFD_CLOEXEC);
	if (s->eventfd < 0) {
		r = err_sys(e, "make an eventfd for the serial port");
		goto fail;
	}
	r = -serial_init_sync(s);
	if (r < 0) {
		err_neg(e, r, "make the lock of the serial port");
		goto fail;
	}
	r = loop_watch(loop, &s->watch, s->eventfd);
	if (r < 0) {
		err_neg(e, r, "watch the serial port's eventfd");
		goto fail;
	}
	*ret = s;
	return 0;

fail:
	serial_free(s);
	return r;
}

void serial_set_muted(struct serial *s)
{
	serial_lock(s);
	s->uart.scr = SERIAL_MUTED;
	serial_unlock(s);
}

void serial_free(struct serial *s)
{
	if (!s)
		return;
	/* glibc's mutexes and condition variables hold no resources. */
	if (s->eventfd >= 0)
		close(s->eventfd);
	munmap(s, sizeof(*s));
}
