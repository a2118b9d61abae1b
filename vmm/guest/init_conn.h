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

#define INIT_CONN_OUT_MAX (2 * INIT_COMMAND_MAX) /* bytes that wait for a guest that does not read */

struct init_conn {
	int fd; /* non-blocking, owned; or -1: there is none, or none any more */
	uint8_t *in;
	size_t in_len;
	uint8_t *out;
	size_t out_len;
};

/* A message that came: its payload has len bytes and a NUL behind them. */
typedef void init_conn_handler(void *ctx, const struct init_msg *msg, const char *payload);

/* Returns 0, or -ENOMEM; init_conn_done accepts either. */
int init_conn_init(struct init_conn *c, int fd);
void init_conn_done(struct init_conn *c);

/* Sends, or keeps for later, a message. Returns 0, -EPIPE without a connection, or -ENOBUFS if too much waits. */
int init_conn_send(struct init_conn *c, const struct init_msg *msg, const void *payload);

/* The events to wait for at c->fd (poll(2)). */
short init_conn_events(const struct init_conn *c);

/*
 * What can be sent and read now. Each message goes to handle. Returns 0, or -EPIPE once the connection is at its end, or
 * -EPROTO after a message without form; c->fd is closed then.
 */
int init_conn_serve(struct init_conn *c, init_conn_handler *handle, void *ctx);

#endif
