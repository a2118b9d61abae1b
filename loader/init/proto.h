/*
 * The protocol between mayfly and its init in the guest.
 *
 * The initramfs. mayfly appends an archive to the initrd. It holds the init, as
 * INIT_PATH, which the kernel runs (rdinit=), and two texts, INIT_BOOT_PATH and
 * INIT_COMMAND_PATH. Both texts, and the payload of INIT_MSG_RUN, are lists of strings.
 * Each string ends with a NUL and begins with a letter that says what it is.
 *
 * The boot text (each at most once, unless marked *; mounts in the order of their depth):
 *
 *	rDEVICE		the block device to mount as root; otherwise the initramfs is the root
 *	hNAME		host name
 *	nADDRESS/PREFIX	of eth0 (IPv4), which is brought up
 *	E*[ADDRESS/PREFIX]	of an interface behind eth0: the n-th, from 1, is that of ethn, which is brought up if it has one
 *	gADDRESS	the default gateway
 *	NADDRESS/PREFIX	the same for IPv6, its 16 bytes as 32 lower-case hexadecimal digits; ignored by a kernel without IPv6
 *	GADDRESS	the default gateway, written the same way
 *	dTEXT		/etc/resolv.conf, in place of what the root has there
 *	kTEXT		lines of /etc/hosts, in front of what the root has there
 *	DDEVICE		a drive with an empty file system, for layers and /tmp; otherwise they are in memory
 *	sSIZE		bytes of memory that layers, /tmp, /run and /dev/shm may take together; default: half of the memory
 *	m*OPTIONS:PATH	a tmpfs with these mount options, mounted at PATH of the root
 *	v*DEVICE:PATH	a file system with an overlay, mounted at PATH of the root; "V" without the overlay, read-only
 *	w*DEVICE:PATH	the same, read-write, no overlay
 *	f*DEVICE:PATH	the file INIT_FILE_NAME of a file system, with an overlay, at PATH; "F" without the overlay, read-only
 *	p*N:PATH	a live directory of the host: 9P2000.L on the connection to port INIT_LIVE_PORT + N; "P": read-only.
 *			If PATH is "/", and there is no "r", it is the root
 *	R		the root is read-only for commands, after all of this
 *	y*NAME=VALUE	of the kernel, as sysctl(8) has it; with '-' before NAME it may be missing
 *	qNUMBER		as many threads may run at once, beside those that run when it is read, the kernel's too
 *	z*NAME:DATA	a file of INIT_SECRETS, read-only, in memory; its bytes are lower-case hexadecimal digits
 *	b*:PATH		a new directory where layers are, at PATH, which is empty in the root
 *	l*DEVICE	writes to it are lost when the machine ends, so it need not be clean then
 *	S		the host takes a snapshot: the machine goes on when number 0 ends with status 0, and needs no command
 *	o*PATH		sent to the host at the end, as a tar archive: the n-th, from 0, on port INIT_ARTIFACT_PORT + n. The names
 *			in it begin with the last component of PATH ("." for "/"). If PATH does not exist, nothing is sent
 *	x*ADDRESS	the MAC address of an interface, as 12 lower-case hexadecimal digits: the n-th, from 0, is that of ethn
 *	c*DEVICE	a drive that gets its size after a restore: init waits until the kernel has it
 *	T		nothing else: the machine becomes a template (see below)
 *
 * A template is a snapshot of a machine that has booted, and has no root yet. Its init sends
 * INIT_MARK_WAITS, and waits until the connection is reset: the machine was restored. Then it sends
 * INIT_MSG_HELLO to its new host, whose INIT_MSG_RESTORED, INIT_MSG_BOOT and INIT_MSG_RUN of number 0
 * follow, in this order. From there on it works as after a boot.
 *
 * A command. Without this list no command is run, and the root's own init is started. If it is empty, init sends
 * INIT_MSG_WARM when all is ready for one, and waits for INIT_MSG_RUN of number 0:
 *
 *	a*ARG		an argument; the first is the program, looked up in PATH if it has no slash
 *	e*KEY=VALUE	of the environment
 *	wDIRECTORY	to run in; default: the home of the user, if one is given, otherwise /
 *	uUSER[:GROUP]	names or numbers
 *	G*GID		a group beside those of the user
 *	R*N:SOFT:HARD	a resource limit by its number, RLIMIT_...
 *	mNUMBER		the umask, decimal; default: 022 (18)
 *	t[ROWSxCOLUMNS]	on a pseudo terminal, of that size
 *	oPATH		instead of arguments: sends PATH as a tar archive to its output, as an artifact
 *	iPATH		instead of arguments: unpacks a tar archive from its input at PATH (loader/init/unpack.h)
 *	k		with i: files belong to whom the archive says
 *
 * The connections are streams of virtio-vsock from the guest to the host (CID 2), from
 * ports below 1024. The guest's kernel gives such ports to privileged programs only, so
 * no other program can open them. One, to INIT_CONTROL_PORT, carries messages both ways:
 * a struct init_msg and len bytes each. Each command has a number, 0 for that of the
 * initramfs. It has up to three more connections, to INIT_STREAM_PORT(number, n): n is 0
 * for its input, 1 for its output, 2 for its errors; on a terminal only 0, both ways.
 * They carry its bytes unchanged, end with EOF, and are closed when the command is over.
 * The guest has connected all of a command's streams before INIT_MSG_STARTED. It closes a
 * stream when the command has closed its end. EOF on a terminal's input has no effect;
 * closing its connection hangs the terminal up.
 *
 * A guest whose kernel has no virtio-vsock runs the command on its console. It prints
 * INIT_CONSOLE_START in a line of its own before the command, and INIT_CONSOLE_STATUS and
 * the status after it. The console is not the controlling terminal there, so Ctrl-C is
 * not a signal, and there are no artifacts. No modules are loaded: a kernel that has
 * virtio-vsock as a module has none.
 */
#ifndef MF_LOADER_INIT_PROTO_H
#define MF_LOADER_INIT_PROTO_H

#include <stdint.h>

#define INIT_DIR ".mayfly"
#define INIT_PATH "/.mayfly/init"
#define INIT_BOOT_PATH "/.mayfly/boot"
#define INIT_COMMAND_PATH "/.mayfly/command"

#define INIT_FILE_NAME "file"
#define INIT_SECRETS "/run/secrets"

#define INIT_CONTROL_PORT 0x6d660000U
#define INIT_ARTIFACT_PORT 0x6d670000U
#define INIT_LIVE_PORT 0x6d650000U
#define INIT_LIVE_EXPORT "/export" /* a live directory's name at its server */
#define INIT_LIVE_MSIZE 65536	   /* bytes of a message to it and from it */
#define INIT_STREAM_PORT(number, n) (0x6d680000U + 4 * (uint32_t)(number) + (uint32_t)(n))
#define INIT_COMMANDS_MAX 64	    /* at once; their numbers are below 0x4000, and unique among running commands */
#define INIT_PAYLOAD_MAX (1U << 17) /* bytes of a message of the guest */
#define INIT_COMMAND_MAX (1U << 21) /* of a message of the host, and of each text: Linux's limit for exec */

#define INIT_CONSOLE_START "mayfly-init: no vsock, using the console"
#define INIT_CONSOLE_STATUS "mayfly-init: status "

enum init_msg_type {
	/* From the guest. */
	INIT_MSG_HELLO = 1,   /* value: INIT_VERSION; flags: INIT_AGAIN, since version 2; the first */
	INIT_MSG_MARK = 2,    /* value: enum init_mark */
	INIT_MSG_STARTED = 3, /* number's program runs */
	/*
	 * number is over, and its streams are closed. value is its exit status, or 128 +
	 * the signal that ended it; or 126 or 127 with a payload, a sentence, if it could
	 * not be started. flags: INIT_OOM, INIT_SIGNALLED. For number 0: the artifacts are sent, and all
	 * writes to drives are on them. If not, flags has INIT_LOST, and the payload has
	 * sentences that begin with "artifacts: " or "drives: ", after "; " if another
	 * precedes them.
	 */
	INIT_MSG_EXIT = 4,
	INIT_MSG_FAILED = 5, /* the payload, a sentence, says why number 0 cannot run; the guest is over */
	INIT_MSG_WARM = 6,   /* there is no number 0 yet; or, with "S", it has ended with status 0 */
	INIT_MSG_HELD = 7,   /* the answer to INIT_MSG_HOLD: only init runs */

	/* From the host. */
	INIT_MSG_RUN = 16,    /* the payload is a command, to be number */
	INIT_MSG_SIGNAL = 17, /* value: to number's process group; flags not 0: to its process alone */
	INIT_MSG_SIZE = 18,   /* of number's terminal: value is rows << 16 | columns */
	/*
	 * The signal number, or SIGTERM if that is 0, to all; SIGKILL after value ms; then as when number 0 ends. A second
	 * one gives the artifacts value ms, too.
	 */
	INIT_MSG_STOP = 19,
	/*
	 * The answer to INIT_MSG_HELLO of a machine that was restored from a snapshot. The payload
	 * is a struct init_restored and the host name, with its NUL; an empty one changes nothing.
	 * Before init answers or does anything else, it does what restored.h says, and lets
	 * processes that INIT_MSG_HOLD has stopped go on. If value is 1, INIT_MSG_RUN with number
	 * 0 follows. The command that was number 0 then goes on with another number that the host
	 * does not know, without its streams. If value is 0, number 0 must not have ended. If it is
	 * INIT_RESTORED_ALONE, it may have: then INIT_MSG_WARM follows, and the machine goes on without. If the
	 * INIT_MSG_HELLO came without INIT_AGAIN, the snapshot is of the time before it: value must not be 1.
	 */
	INIT_MSG_RESTORED = 20,
	INIT_MSG_BOOT = 21, /* to a template: the payload is the boot text */
	INIT_MSG_HOLD = 22, /* with "S": all processes stand still until INIT_MSG_RESTORED */
};

#define INIT_RANDOM_BYTES 32
#define INIT_RESTORED_ALONE 2U
#define INIT_RESTORED_PATH "/etc/mayfly/restored"

#define INIT_VERSION 2
#define INIT_AGAIN 1U	  /* an earlier connection was reset */
#define INIT_OOM 1U	  /* the kernel killed a process for lack of memory while it ran */
#define INIT_LOST 2U	  /* a part of an artifact was not sent as it is, or a write is not on its drive */
#define INIT_SIGNALLED 4U /* status is 128 + a signal */

enum init_mark { INIT_MARK_INIT, INIT_MARK_ROOT, INIT_MARK_NET, INIT_MARK_WAITS };

struct init_msg {
	uint32_t type;	 /* enum init_msg_type */
	uint32_t number; /* of a command, or 0 */
	uint32_t value;
	uint32_t flags;
	uint32_t len; /* of the payload behind it */
};

struct init_restored {
	uint64_t realtime_ns; /* the wall clock, since 1970 */
	uint8_t random[INIT_RANDOM_BYTES];
};

_Static_assert(sizeof(struct init_restored) == 40, "the guest's and the host's");

#endif
