/*
 * The control connection to the guest's init: messages (loader/init/proto.h) over a stream. What comes from there is
 * the guest's word, and checked for its form here.
 */
#ifndef MF_GUEST_INIT_CONN_H
#define MF_GUEST_INIT_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loader/init/proto.h"

#define CHANNEL_OUT_MAX (4 * INIT_PAYLOAD_MAX) /* bytes that wait for a guest that does not read */

struct channel {
	int fd; /* non-blocking, owned; or -1: there is none, or none any more */
	uint8_t *in;
	size_t in_len;
	uint8_t *out;
	size_t out_len;
};

/* A message that came: its payload has len bytes and a NUL behind them. */
typedef void channel_handler(void *ctx, const struct init_msg *msg, const char *payload);

/* Returns 0, or -ENOMEM; channel_done accepts either. */
int channel_init(struct channel *c, int fd);
void channel_done(struct channel *c);

/* Sends, or keeps for later, a message. Returns 0, -EPIPE without a connection, or -ENOBUFS if too much waits. */
int channel_send(struct channel *c, const struct init_msg *msg, const void *payload);

/* The events to wait for at c->fd (poll(2)). */
short channel_events(const struct channel *c);

/*
 * What can be sent and read now. Each message goes to handle. Returns 0, or -EPIPE once the connection is at its end, or
 * -EPROTO after a message without form; c->fd is closed then.
 */
int channel_serve(struct channel *c, channel_handler *handle, void *ctx);

#endif
