/*
 * The state of a 16550A and its rules, without threads: serial.c holds a lock around
 * every call. Functions that "signal" return whether the loop has to take a turn for this
 * UART: uart_service, output, input.
 */
#ifndef MF_PLATFORM_UART_H
#define MF_PLATFORM_UART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/platform/serial.h"

struct state_in;
struct state_out;

struct uart_fifo {
	uint16_t data[SERIAL_RX_SIZE]; /* bytes, or SERIAL_BREAK */
	unsigned head, len;
};

struct uart {
	unsigned stall_ms;
	uint8_t ier, fcr, lcr, mcr, msr_delta, scr, dll, dlm;
	bool overrun;
	bool thre;	/* the THR-empty cause: latched, and cleared by a read of IIR or a write to THR */
	bool thre_wait; /* THR was written, or found full: latch when half of the ring is free */
	bool edge;	/* raise the line, if a cause is pending */
	bool iir_read;	/* IIR was read, and no further edge was sent because of that read */
	bool rx_wanted; /* the host side waits for room */
	bool rx_looked; /* the guest has used the port since it read the last byte of input; in no snapshot */
	unsigned lsr_polls;
	struct uart_fifo rx, loop;

	/* Positions count up from 0, which they return to whenever the ring is empty, so that its tail stays untouched. */
	size_t tx_head, tx_tail;
	bool tx_busy;		/* the host side is writing */
	bool tx_due;		/* the host side looks for output by itself, soon */
	uint64_t full_since_ms; /* 0: the ring has room, or the guest has not polled */
	uint64_t dropped;
	uint8_t tx[SERIAL_TX_SIZE];
};

/* The guest's accesses; reg below SERIAL_PORTS. Return signal. */
bool uart_write(struct uart *u, unsigned reg, uint8_t value);
bool uart_read(struct uart *u, unsigned reg, uint8_t *ret);

/* A turn of the loop: returns whether to raise the interrupt line. */
bool uart_service(struct uart *u);

/*
 * The registers and FIFOs, for a snapshot. Output that is still in the ring is not part of it: the process that was saved
 * writes it. So THR is empty after uart_restore, which wants a UART that was just made.
 */
void uart_save(const struct uart *u, struct state_out *out);
void uart_restore(struct uart *u, struct state_in *in);

/*
 * Bytes of room in the TX ring. An interrupt-driven guest continues when half of it is
 * free.
 */
size_t uart_tx_room(const struct uart *u);

/* Removes the oldest len bytes of output. */
void uart_tx_consume(struct uart *u, size_t len);

/*
 * Host input: how much may be pushed now (nothing before the FIFO is empty), and how much
 * was. 0 or less sets rx_wanted.
 */
size_t uart_rx_room(struct uart *u);
size_t uart_rx_push(struct uart *u, const uint16_t *chars, size_t num);

#endif
