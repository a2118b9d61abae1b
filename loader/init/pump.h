/* Carries bytes one way, from one descriptor to another, through one buffer of bounded size. */
#ifndef MF_INIT_PUMP_H
#define MF_INIT_PUMP_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PUMP_BYTES (1U << 16)
#define PUMP_POLLS 2

/* It owns both descriptors; they are non-blocking, and -1 when it is over. */
struct pump {
	int from, to;
	uint32_t start, len; /* of what is in the buffer */
	uint32_t left;	     /* bytes still to read, once it is ending */
	bool ending, failed;
	char *buf;
};

bool pump_is_over(const struct pump *pump);
/* Fills in PUMP_POLLS entries. */
void pump_polls(const struct pump *pump, struct pollfd *polls);
/*
 * Handles the results of poll(). At an error it only sets failed, and keeps its bytes: the caller
 * closes it, or gives it another descriptor in place of one that a restore has reset.
 */
void pump_turn(struct pump *pump, const struct pollfd *polls);
/*
 * Ends after the bytes that are available now, limit at most, even if another process
 * still holds the other end and writes.
 */
void pump_end(struct pump *pump, uint32_t limit);
/* Ends at once. */
void pump_close(struct pump *pump);

#endif
