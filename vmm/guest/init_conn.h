/*
 * The control connection to the guest's init: messages (loader/init/proto.h) over a stream.
 * The guest is hostile: the form of its messages is checked here, their meaning by handle.
 */
#ifndef MF_GUEST_INIT_CONN_H
#define MF_GUEST_INIT_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loader/init/proto.h"

#define INIT_CONN_OUT_MAX (2 * INIT_COMMAND_MAX) /* bytes that wait for a guest that does not read */

struct init_conn {
	int fd; /* non-blocking, owned; or -1: not connected */
	uint8_t *in;
	size_t in_len;
	uint8_t *out;
	size_t out_len;
};

/* A message that was received; its payload has len bytes, followed by a NUL. */
typedef void init_conn_handler(void *ctx, const struct init_msg *msg, const char *payload);

/* Returns 0, or -ENOMEM; init_conn_done accepts either. */
int init_conn_init(struct init_conn *c, int fd);
void init_conn_done(struct init_conn *c);

/* Sends, or keeps for later, a message. Returns 0, -EPIPE without a connection, or -ENOBUFS if too much waits. */
int init_conn_send(struct init_conn *c, const struct init_msg *msg, const void *payload);

/* The events to wait for at c->fd (poll(2)). */
short init_conn_events(const struct init_conn *c);

/*
 * Sends and reads what is possible without waiting, and passes each message to handle.
 * Returns 0; or -EPIPE at EOF, or -EPROTO after a malformed message, and closes c->fd.
 */
int init_conn_serve(struct init_conn *c, init_conn_handler *handle, void *ctx);

#endif
