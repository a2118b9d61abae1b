/*
 * The control socket, at which `mayfly exec` asks the monitor for commands; both sides of it. A message is a packet: a
 * struct init_msg, and its payload. See guest_client.c.
 */
#ifndef MF_GUEST_CONTROL_H
#define MF_GUEST_CONTROL_H

#include <stdbool.h>

#include "loader/init/proto.h"
#include "vmm/guest/stdio_relay.h"

struct config;
struct err;
struct unix_socket;

/* One client, as the monitor has it. */
struct control_client {
	int fd;		 /* non-blocking; or -1: not connected */
	unsigned number; /* of its command, fixed */
	bool running;	 /* the guest has that, whether the client is here or not */
	bool hung_up;	 /* the client has gone, and the guest was notified */
};

/*
 * Listens at path, for this user alone. If the last directory of path is ours (config_control_path), makes it, or refuses one
 * in which others could exchange the socket.
 */
int control_listen(struct unix_socket *name, const char *path, struct err *e);

/* Accept a waiting client; the second one refuses it and closes it. Return 0 or accept4(2)'s -errno. */
int control_client_open(struct control_client *c, int listen_fd);
int control_turn_away(int listen_fd);
void control_client_close(struct control_client *c);

/*
 * Receives a message of the client: payload has INIT_COMMAND_MAX + 1 bytes. A payload of
 * more than INIT_PAYLOAD_MAX comes in a memfd with an otherwise empty packet. Returns 0,
 * -EAGAIN when there is none, or another -errno on EOF or an invalid message.
 */
int control_client_receive(struct control_client *c, struct init_msg *ret, char *payload);

/* Answer INIT_MSG_RUN with the streams, which stay the caller's, or with INIT_MSG_FAILED; forward a message of the guest. */
void control_client_accept(struct control_client *c, const int fd[STDIO_RELAY_STREAMS]);
void control_client_refuse(struct control_client *c, const char *text);
void control_client_tell(struct control_client *c, const struct init_msg *msg, const char *payload);

/*
 * The client's side: connects to target, a name or a path with a slash, asks for c's command and gets its streams.
 * Returns the connection, blocking, or -errno with e set.
 */
int control_request(const char *target, const struct config *c, bool tty, int ret_fd[STDIO_RELAY_STREAMS],
		    struct err *e);

#endif
