/*
 * The control socket, at which `mayfly exec` asks the monitor for commands; both sides of it. A message is a packet: a
 * struct init_msg, and its payload. See guest_client.c.
 */
#ifndef MF_GUEST_CONTROL_H
#define MF_GUEST_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "loader/init/proto.h"
#include "vmm/config/config.h"
#include "vmm/guest/stdio_relay.h"

struct err;
struct guest_run;
struct unix_socket;

/* Messages of a client beside those of proto.h. */
enum control_msg_type {
	CONTROL_MSG_WAIT = 64, /* answered by INIT_MSG_HELLO when the guest takes commands, or by INIT_MSG_FAILED */
	CONTROL_MSG_INFO = 65, /* answered by the same with an object of JSON, and a memfd with the configuration */
	/*
	 * With descriptors: where `state`, `memory` and the layer of each drive with an overlay, or its image, go (vmm/vm/vm_state.h), in the
	 * order of the drives; value: CONTROL_STOP, CONTROL_DIFF, CONTROL_IMAGE, CONTROL_LATER, or CONTROL_FORK.
	 * Answered by the same with an object of JSON when they are written, with CONTROL_FORK also with the descriptors of the
	 * memories (vmm/snapshot/fork.h); or by INIT_MSG_FAILED.
	 */
	CONTROL_MSG_SNAPSHOT = 66,
	CONTROL_MSG_START =
		68, /* the command that is held (config.h) starts; answered by INIT_MSG_HELLO or INIT_MSG_FAILED */
	CONTROL_MSG_SIGNAL = 69, /* value: a signal to the command that the VM was started for. Answered by the same */
	CONTROL_MSG_STOP = 67,	 /* after one with CONTROL_STOP: it is in its place, and the VM ends. No answer */
};

#define CONTROL_FILES_MAX (2 + CONFIG_DRIVES_MAX)
#define CONTROL_STOP 1U /* the VM ends when it is written */
#define CONTROL_IMAGE(drive)                                                                                           \
	(1U << (16 + (drive))) /* a file for the image of that one: it is writable, without an overlay */
#define CONTROL_DIFF 2U	       /* only what differs from the snapshot that the VM was restored from, if it was */
#define CONTROL_FORK                                                                                                   \
	8U /* memory is not written, but shared; `memory` may be used for what has changed, and is kept then */
#define CONTROL_LAYERS_MAX 16
#define CONTROL_LATER 4U /* when the configuration says, and with CONTROL_STOP; the VM also ends if the client leaves */

/* One client, as the monitor has it. */
struct control_client {
	int fd;		       /* non-blocking; or -1: not connected */
	unsigned number;       /* of its command, fixed */
	bool running;	       /* the guest has that, whether the client is here or not */
	bool waits;	       /* for the guest to take commands */
	bool hung_up;	       /* the client has gone, and the guest was notified */
	bool snaps;	       /* it waits for a snapshot */
	bool stops;	       /* the VM is paused until it sends CONTROL_MSG_STOP, or leaves */
	struct guest_run *run; /* or NULL: not one of the control socket (guest_run.h); owned */
	unsigned later;	       /* that is not begun: its flags, not 0; the files are here until then */
	/* Of the CONTROL_MSG_SNAPSHOT that control_client_receive has returned; its caller's. */
	int file[CONTROL_FILES_MAX];
	unsigned num_files;
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

/* Answers CONTROL_MSG_INFO with text, and the configuration's descriptor, which stays the caller's, or -1. */
void control_client_inform(struct control_client *c, const char *text, int config_fd);

/* Answers CONTROL_MSG_SNAPSHOT with text, and the descriptors of memories, which stay the caller's. */
void control_client_snapped(struct control_client *c, const char *text, const int *memory, unsigned num);

#define CONTROL_INFO_MAX 65536 /* bytes of the object, with a NUL */

/*
 * The client's side. control_connect connects to target, a name or a path with a slash. wait_ms: waits so long, if need be,
 * until something listens there and its guest takes commands; 0: does not wait. Returns the connection, blocking, or -errno
 * with e set.
 */
int control_connect(const char *target, uint64_t wait_ms, struct err *e);

/* Asks for a command, the text of proto.h, and gets its streams. Returns 0 or -errno with e set. */
int control_request(int fd, const char *text, size_t len, bool tty, int ret_fd[STDIO_RELAY_STREAMS], struct err *e);

/*
 * Asks for CONTROL_MSG_INFO. The text is the monitor's, which a guest may have taken over. ret_fd gets the descriptor of the
 * configuration, or -1; ret_pid the process that runs the VM, as the kernel says, or 0. Returns 0 or -errno with e set, after 2
 * seconds at most.
 */
int control_info(int fd, char text[CONTROL_INFO_MAX], int *ret_fd, pid_t *ret_pid, struct err *e);

/*
 * Asks for a snapshot, with flags of CONTROL_..., and waits until it is written. ret_text has CONTROL_INFO_MAX bytes: an object of JSON.
 * With CONTROL_FORK, memory, of CONTROL_LAYERS_MAX, gets *ret_num descriptors, which become the caller's; else it may be NULL.
 * Returns 0, or -errno with e set.
 */
int control_snapshot(int fd, const int *files, unsigned num, unsigned flags, char *ret_text, int *memory,
		     unsigned *ret_num, struct err *e);

/* Asks for CONTROL_MSG_START or CONTROL_MSG_SIGNAL. Returns 0, or -errno with e set, after CONTROL_ASK_MS at most. */
#define CONTROL_ASK_MS 10000
int control_ask(int fd, enum control_msg_type type, uint32_t value, struct err *e);

/* After a snapshot with stop: ends the VM. A client that leaves without it lets the VM go on. Returns as above. */
int control_stop(int fd, struct err *e);

#endif
