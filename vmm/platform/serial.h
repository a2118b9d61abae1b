/*
 * A 16550A without its host side: registers for the guest on vCPU threads, and two byte
 * streams for the console on the loop. serial.c explains what happens when either side is
 * slow.
 */
#ifndef MF_PLATFORM_SERIAL_H
#define MF_PLATFORM_SERIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct loop;
struct serial;
struct state_in;
struct state_section;
struct state_out;

#define SERIAL_PORT 0x3f8
#define SERIAL_PORTS 8
#define SERIAL_IRQ 4
#define SERIAL_TX_SIZE 65536	  /* bytes of guest output that wait for the host; a power of two */
#define SERIAL_TX_LOOK_NS 1000000 /* from a look at output to the next one, as long as there is some */
#define SERIAL_RX_SIZE 64	  /* bytes of host input that the guest gets at once */
#define SERIAL_RX_BYTE_NS 15625	  /* of input: 64,000 bytes a second */
#define SERIAL_RX_PAUSE_MAX_MS 50 /* for a guest that takes as long to read SERIAL_RX_SIZE bytes */
#define SERIAL_STALL_MS 1000	  /* no progress on a full TX ring for this long: polled output is dropped */
#define SERIAL_MUTED 0x4d	  /* in the scratch register: see serial_set_muted */
#define SERIAL_BREAK 0x100	  /* as an RX character: a break, which the guest reads as LSR.BI and a byte 0 */

/* Time marks of a Linux guest, each reported once. */
enum serial_event {
	SERIAL_EVENT_OPENED, /* receive interrupts enabled: a process opened the port (PID 1: /dev/console) */
	SERIAL_EVENT_OUTPUT, /* the first interrupt-driven byte: first output of user space (printk polls) */
};

struct serial_ops {
	void (*raise)(void *ctx);			   /* an edge on the interrupt line; on the loop */
	void (*event)(void *ctx, enum serial_event event); /* or NULL; on a vCPU thread, not locked, must be quick */
};

/*
 * Makes a UART on loop, which does not run yet. ops and ctx stay the caller's. stall_ms: SERIAL_STALL_MS, except in
 * tests. Returns 0 or -errno with e set.
 */
int serial_new(struct serial **ret, struct loop *loop, const struct serial_ops *ops, void *ctx, unsigned stall_ms,
	       struct err *e);

/*
 * Tells a guest that nobody reads the port, by its scratch register. The project's kernels then
 * write to it without a probe and without interrupts. Before the vCPUs run.
 */
void serial_set_muted(struct serial *s);

/* After the loop has stopped and no vCPU runs. NULL is fine. */
void serial_free(struct serial *s);

/* The registers: a bus_handler for [SERIAL_PORT, SERIAL_PORT + SERIAL_PORTS). vCPU threads, several at once. */
void serial_access(void *ctx, uint64_t offset, bool is_write, uint8_t *data, unsigned len);

/* The eventfd that vCPU threads write (for their seccomp filter). */
int serial_event_fd(const struct serial *s);

/* The host side, on the loop. */
struct serial_host {
	void (*wake)(void *ctx); /* output or room for input may be available; also called once soon after loop_start */
	/* Sees every byte of output once: before serial_tx_peek gives it, and at the latest in serial_drain. */
	void (*output)(void *ctx, const uint8_t *data, size_t len);
};

/* Sets the host side; host and ctx stay the caller's. Before loop_start. */
void serial_set_host(struct serial *s, const struct serial_host *host, void *ctx);

/*
 * On the loop: finds the oldest output, one piece of at most max bytes. Returns its
 * length (0: none) and its place. The piece stays there until serial_tx_done takes any
 * number of its bytes, 0 included.
 */
size_t serial_tx_peek(struct serial *s, const uint8_t **ret, size_t max);
void serial_tx_done(struct serial *s, size_t len);

/*
 * On the loop: hands over characters, bytes or SERIAL_BREAK. Returns how many were taken:
 * all that fit, or none while the guest has not read the last ones or the pause is not
 * over. If some were refused, wake comes when there is room.
 */
size_t serial_rx_push(struct serial *s, const uint16_t *chars, size_t num);

/*
 * Waits until all output has been taken and written, at most timeout_ms. Returns whether
 * it was. Even on a timeout, host->output has seen all of it, unless the loop itself
 * hangs. Any thread but the loop's, with the loop running and the guest stopped.
 */
bool serial_drain(struct serial *s, unsigned timeout_ms);

/*
 * Snapshots. Main thread, with every vCPU parked.
 *
 * serial_hold, before loop_start, for a port that will be restored: input that comes before serial_resume
 * waits, or the restore would lose it.
 *
 * serial_save writes the registers and the input that the guest has not read. serial_restore reads them
 * into a port that was just made; it returns 0, or -errno with e set. serial_resume follows. Output that
 * has not been written yet is left to the process that was saved.
 */
extern const struct state_section serial_section; /* for state_check_sections */
void serial_hold(struct serial *s);
void serial_save(struct serial *s, struct state_out *out);
int serial_restore(struct serial *s, struct state_in *in, struct err *e);
void serial_resume(struct serial *s);

/* Bytes of output dropped so far because the host did not accept them. Any thread. */
uint64_t serial_dropped(struct serial *s);

#endif
