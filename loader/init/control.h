/* The connection that carries the messages of proto.h. */
#ifndef MF_INIT_CONTROL_H
#define MF_INIT_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loader/init/proto.h"

/*
 * Connects. Returns 0 or -errno: then nobody answers, and the functions below do nothing.
 */
int control_open(void);
bool control_is_open(void);
/* It was closed at an error that a restore of the machine causes, and control_open() was not tried since. */
bool control_was_reset(void);
/* For poll(); -1 if it is not open. */
int control_fd(void);
/*
 * The events to wait for. While the host does not accept what is sent, nothing more is
 * read, so that no queue can overflow.
 */
short control_events(void);

/* Sends, or queues, a message; the payload is a string, not sent with its NUL, or NULL. */
void control_send(enum init_msg_type type, uint32_t number, uint32_t value, uint32_t flags, const char *payload);
/* Sends as much of the queue as is accepted now. */
void control_flush(void);
/* Waits until all is sent, or for so many milliseconds. */
void control_drain(int timeout_ms);
/* Reads what has arrived. EOF and invalid messages close the connection. */
void control_read(void);
/*
 * Whether there is a next message and the host accepts answers: poll() does not know of
 * messages read already.
 */
bool control_has_next(void);
/* The next message of those read, valid until the next call; or NULL. */
const struct init_msg *control_next(const char **ret_payload);
/* Waits for it, for so many milliseconds at most. NULL: none came, or the connection was closed. */
const struct init_msg *control_await(int timeout_ms, const char **ret_payload);
void control_close(void);

#endif
