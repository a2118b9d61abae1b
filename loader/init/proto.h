/*
 * What mayfly and its init in the guest say to each other.
 *
 * The initramfs. mayfly appends an archive to the initrd that holds the init, as INIT_PATH, which the kernel is told to
 * run (rdinit=), and two texts, INIT_BOOT_PATH and INIT_COMMAND_PATH. Both, and the payload of INIT_MSG_RUN, are lists of
 * strings that each end with a NUL and begin with a letter that says what they are.
 *
 * The boot text (all but 'p' at most once, unless marked *; mounts in the order of their depth):
 *
 *	rDEVICE		the block device to mount as root; else the initramfs is the root
 *	hNAME		host name
 *	nADDRESS/PREFIX	of eth0 (IPv4), which is brought up
 *	gADDRESS	the default gateway
 *	dADDRESS	the name server, for /etc/resolv.conf; it replaces what the root has there
 *	sSIZE		bytes that all in memory may take together: layers, /tmp, /run and /dev/shm; else half of the memory
 *	m*OPTIONS:PATH	a tmpfs with these mount options, mounted at PATH of the root
 *	v*DEVICE:PATH	a file system with an overlay, mounted at PATH of the root; "V" without the overlay, read-only
 *	w*DEVICE:PATH	the same, read-write, no overlay
 *	l*DEVICE	what is written to it is lost when the machine ends: it need not be clean then
 *	o*PATH		sent to the host at the end, as a tar archive: the n-th, from 0, on port INIT_ARTIFACT_PORT + n. The names
 *			in it begin with the last component of PATH ("." for "/"); of a PATH that is not there, nothing is sent
 *
 * A command, a list without which none is run and the root's own init is started:
 *
 *	a*ARG		an argument; the first is the program, looked up in PATH if it has no slash
 *	e*KEY=VALUE	of the environment
 *	wDIRECTORY	to run in; else the home of the user, if one is given, and / if not
 *	uUSER[:GROUP]	names or numbers
 *	t[ROWSxCOLUMNS]	on a pseudo terminal, of that size
 *
 * The connections are streams of virtio-vsock from the guest to the host (CID 2), from ports below 1024, which the guest's
 * kernel gives to privileged programs only: nobody else can have them. One, to INIT_CONTROL_PORT, carries
 * messages, a struct init_msg and len bytes each, both ways. Each command has a number, 0 for that of the initramfs, and
 * up to three more connections to INIT_STREAM_PORT(number, n): n is 0 for its input, 1 for its output, 2 for its errors; on
 * a terminal only 0, both ways. They carry its bytes as they are, are closed when it is over, and end with the end of
 * the stream. The guest has connected all of a command's streams before INIT_MSG_STARTED. It closes a stream of which the
 * command has closed its end; the end of a terminal's input means nothing, and closing its connection hangs it up.
 *
 * A guest whose kernel has no virtio-vsock runs the command on its console, and says there, in a line of its own,
 * INIT_CONSOLE_START before, and INIT_CONSOLE_STATUS and the status behind. It is not the controlling terminal there,
 * so Ctrl-C is not a signal, and there are no artifacts. No modules are loaded: one that has it as a
 * module has none.
 */
#ifndef MF_LOADER_INIT_PROTO_H
#define MF_LOADER_INIT_PROTO_H

#include <stdint.h>

#define INIT_DIR ".mayfly"
#define INIT_PATH "/.mayfly/init"
#define INIT_BOOT_PATH "/.mayfly/boot"
#define INIT_COMMAND_PATH "/.mayfly/command"

#define INIT_CONTROL_PORT 0x6d660000U
#define INIT_ARTIFACT_PORT 0x6d670000U
#define INIT_STREAM_PORT(number, n) (0x6d680000U + 4 * (uint32_t)(number) + (uint32_t)(n))
#define INIT_COMMANDS_MAX 64	    /* at once; their numbers are below 0x4000, and not used twice at once */
#define INIT_PAYLOAD_MAX (1U << 17) /* bytes of a message of the guest */
#define INIT_COMMAND_MAX (1U << 21) /* and of the host, and of each text: what Linux takes for exec */

#define INIT_CONSOLE_START "mayfly-init: no vsock, using the console"
#define INIT_CONSOLE_STATUS "mayfly-init: status "

enum init_msg_type {
	/* From the guest. */
	INIT_MSG_HELLO = 1,   /* value: INIT_VERSION; the first */
	INIT_MSG_MARK = 2,    /* value: enum init_mark */
	INIT_MSG_STARTED = 3, /* number's program runs */
	/*
	 * number is over, and its streams are closed: value is its exit status, or 128 + the signal that ended it; 126
	 * or 127 with a payload, a sentence, if it could not be started. flags: INIT_OOM. For number 0: the artifacts are
	 * sent, and everything that was written to drives is on them; if not, flags has INIT_LOST, and sentences that
	 * begin with "artifacts: " or "drives: " are in the payload, behind "; " if there is another.
	 */
	INIT_MSG_EXIT = 4,
	INIT_MSG_FAILED =
		5, /* the payload, a sentence, says what kept the guest from running number 0; the guest is over */

	/* From the host. */
	INIT_MSG_RUN = 16,    /* the payload is a command, to be number */
	INIT_MSG_SIGNAL = 17, /* value: to number's process group */
	INIT_MSG_SIZE = 18,   /* of number's terminal: value is rows << 16 | columns */
	/* SIGTERM to all, after value ms SIGKILL; then as when number 0 ends. Once more: so long for the artifacts, too. */
	INIT_MSG_STOP = 19,
};

#define INIT_VERSION 1
#define INIT_OOM 1U  /* the kernel has killed something for want of memory while it ran */
#define INIT_LOST 2U /* a part of an artifact was not sent as it is, or of what was written is not on its drive */

enum init_mark { INIT_MARK_INIT, INIT_MARK_ROOT, INIT_MARK_NET };

struct init_msg {
	uint32_t type;	 /* enum init_msg_type */
	uint32_t number; /* of a command, or 0 */
	uint32_t value;
	uint32_t flags;
	uint32_t len; /* of the payload behind it */
};

#endif
