/*
 * The guest's PID 1.
 *
 * proto.h describes its messages to and from the monitor. It has one thread and one loop,
 * which waits in poll() for the control connection, the commands' streams and the ends of
 * processes, and never for a single one of them. It first performs the steps that precede
 * the command; a failure of any step is the end (init_fail). Then it serves, until number
 * 0, the command that came with the boot, is over. Then, in stages:
 *
 *	STAGE_RUN    commands run; STOP from the host, or EOF, sends them SIGTERM, and SIGKILL after a while
 *	STAGE_SEND   a process of its own sends the artifacts; STOP, or another one, gives it that while
 *	STAGE_TERM   all processes that still run get SIGTERM
 *	STAGE_KILL   all processes that still run get SIGKILL
 *	STAGE_OVER   everything is on its drive, and the host is notified; the host ends the machine, or else init does
 *
 * All signals are blocked, SIGPIPE too, and the kernel does not deliver signals that
 * would kill PID 1. Its children cannot reach it: all descriptors are closed on exec, and
 * the OOM killer takes it last.
 *
 * Without a vsock to the host it runs the command on the console. Without a command it
 * becomes the root's own init. Modules are not loaded: a kernel that has virtio-vsock as
 * a module has none.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loader/init/artifact.h"
#include "loader/init/command.h"
#include "loader/init/control.h"
#include "loader/init/drive.h"
#include "loader/init/fd.h"
#include "loader/init/hold.h"
#include "loader/init/leave.h"
#include "loader/init/link.h"
#include "loader/init/net.h"
#include "loader/init/proto.h"
#include "loader/init/restored.h"
#include "loader/init/root.h"
#include "loader/init/secret.h"
#include "loader/init/sysctl.h"
#include "loader/init/text.h"

#define TERM_MS 500	/* for what still runs when the command is over */
#define KILL_MS 2000	/* for what does not even end by SIGKILL, since it waits for a drive */
#define STOP_MS 1000	/* for commands, after EOF from the host */
#define HOST_MS 1000	/* for the host to end the machine */
#define MESSAGES_MAX 64 /* in one turn */

enum stage { STAGE_RUN, STAGE_SEND, STAGE_TERM, STAGE_KILL, STAGE_OVER };

struct list {
	size_t len;
	char s[INIT_COMMAND_MAX + 1];
};

static struct list boot, command;

static struct {
	enum stage stage;
	int64_t deadline; /* of the stage, in clock_ms(); 0: none */
	bool console, stopped;
	bool snapshot;	       /* the host takes one; */
	bool warm;	       /* and number 0 has ended */
	struct text artifacts; /* their errors */
} life;
static int signals = -1; /* not in there, so that the text takes no space in the program */

static bool init_meet_host(void);

/*
 * Sends the last message. Then the host ends the machine, or nothing does. A machine that is restored from a snapshot of
 * this moment has another host, which has not got the message.
 */
static void init_end(enum init_msg_type type, const struct command_end *last) __attribute__((noreturn));

static void init_end(enum init_msg_type type, const struct command_end *last)
{
	int64_t end;

	do {
		control_send(type, 0, last->status, last->flags, last->why.s);
		control_drain(HOST_MS);
		end = clock_ms() + HOST_MS;
		while (control_is_open() && clock_ms() < end) {
			struct pollfd polled = { .fd = control_fd(), .events = POLLIN };
			const char *payload;

			if (poll(&polled, 1, (int)(end - clock_ms())) > 0)
				control_read();
			while (control_next(&payload) != NULL)
				; /* too late for any */
		}
	} while (control_was_reset() && init_meet_host());
	leave_reboot();
}

static void init_fail(const struct text *why) __attribute__((noreturn));

static void init_fail(const struct text *why)
{
	const struct command_end end = { .why = *why };
	struct text drives = { 0 };

	leave_drives(boot.s, boot.len, &drives);
	if (!control_is_open())
		fd_say("mayfly-init: ", why->s);
	init_end(INIT_MSG_FAILED, &end);
}

static void init_mark(enum init_mark mark)
{
	control_send(INIT_MSG_MARK, 0, mark, 0, NULL);
}

static void init_protect(void)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	sigemptyset(&all);
	sigaddset(&all, SIGCHLD);
	signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
	umask(022);
	/* Ctrl-Alt-Del is for whoever asks for it. */
	(void)reboot(RB_DISABLE_CAD);
}

static bool init_read_list(const char *path, struct list *ret)
{
	long len = fd_read_file(path, ret->s, sizeof(ret->s));
	struct text why = { 0 };

	if (len == -ENOENT)
		return false;
	if (len < 0 || (len > 0 && ret->s[len - 1] != '\0')) {
		text_add(&why, path, NULL);
		text_add_error(&why, len < 0 ? (int)-len : EINVAL);
		init_fail(&why);
	}
	ret->len = (size_t)len;
	return true;
}

/* There is no command: the root's own init is PID 1. */
static void init_hand_over(char **argv, char **envp)
{
	static const char *const inits[] = { "/sbin/init", "/etc/init", "/bin/init", "/bin/sh" };
	int console = open("/dev/console", O_RDWR | O_CLOEXEC);
	struct text why = { 0 };
	sigset_t none;

	control_drain(HOST_MS);
	/* Those that the kernel has opened are as good, if there are any. */
	for (int fd = 0; fd < 3 && console >= 0; fd++)
		(void)dup2(console, fd);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (size_t i = 0; i < sizeof(inits) / sizeof(inits[0]); i++) {
		argv[0] = (char *)(uintptr_t)inits[i];
		execve(inits[i], argv, envp);
	}
	init_protect();
	text_add(&why,
		 "no command was given, and the root has no init: neither /sbin/init, /etc/init, /bin/init nor /bin/sh",
		 NULL);
	init_fail(&why);
}

static void init_require(const struct init_msg *msg, enum init_msg_type type)
{
	struct text why = { 0 };

	if (msg != NULL && msg->type == type)
		return;
	text_add(&why, "restore: no answer", NULL);
	init_fail(&why);
}

/*
 * All connections are reset: the machine was restored from a snapshot, and another host
 * listens. False: there is none.
 */
static bool init_meet_host(void)
{
	const struct init_msg *msg;
	struct text why = { 0 };
	const char *payload;
	int64_t asked;

	/* It may be restored once more meanwhile: then the kernel forgets a request, or resets the connection. */
	do {
		control_close();
		if (control_open() < 0)
			return false;
		asked = clock_ms();
		control_send(INIT_MSG_HELLO, 0, INIT_VERSION, INIT_AGAIN, NULL);
		msg = control_await(HOST_MS, &payload);
	} while (msg == NULL && control_was_reset());
	init_require(msg, INIT_MSG_RESTORED);
	if (!restored_apply(payload, msg->len, asked, &why))
		init_fail(&why);
	if (msg->value == INIT_RESTORED_ALONE && life.warm)
		control_send(INIT_MSG_WARM, 0, 0, 0, NULL);
	else if (msg->value != 0 && msg->value != INIT_RESTORED_ALONE && (life.stage != STAGE_RUN || life.stopped))
		text_add(&why, "the snapshot was taken when its command had ended: restore it without a COMMAND", NULL);
	else if (msg->value != 0 && msg->value != INIT_RESTORED_ALONE)
		command_retire();
	else if (life.warm)
		text_add(&why, "the snapshot's command has ended: restore it with a COMMAND", NULL);
	if (why.len > 0 || !hold_all(false, &why))
		init_fail(&why);
	life.snapshot = life.warm = false;
	return true;
}

static void init_take_list(enum init_msg_type type, struct list *ret)
{
	const char *payload;
	const struct init_msg *msg = control_await(HOST_MS, &payload);

	init_require(msg, type);
	memcpy(ret->s, payload, msg->len); /* of INIT_COMMAND_MAX at most: control_next */
	ret->len = msg->len;
}

/* The machine becomes a template, and is restored: see proto.h. */
static void init_be_template(void)
{
	struct pollfd polled = { .fd = control_fd() };

	init_mark(INIT_MARK_WAITS);
	while (control_is_open() && (polled.revents & (POLLERR | POLLHUP)) == 0)
		(void)poll(&polled, 1, -1);
	(void)init_meet_host(); /* without one, there is no list either */
	init_mark(INIT_MARK_INIT);
	init_take_list(INIT_MSG_BOOT, &boot);
	init_take_list(INIT_MSG_RUN, &command);
	drive_await_sizes(boot.s, boot.len);
}

/* All that comes before the command; whether there is one. */
static bool init_prepare(void)
{
	struct text why = { 0 };
	bool has_command;

	if (control_open() < 0) {
		life.console = true;
	} else {
		control_send(INIT_MSG_HELLO, 0, INIT_VERSION, 0, NULL);
		init_mark(INIT_MARK_INIT);
	}
	/* Empty, without a file: the root is the initramfs. */
	(void)init_read_list(INIT_BOOT_PATH, &boot);
	has_command = init_read_list(INIT_COMMAND_PATH, &command);
	root_mount_dev();
	if (text_find(boot.s, boot.len, 'T') != NULL)
		init_be_template();
	if (!root_enter(boot.s, boot.len, &why))
		init_fail(&why);
	root_mount_usual();
	if (!root_mount_drives(boot.s, boot.len, &why) || !secret_write_all(boot.s, boot.len, &why) ||
	    !sysctl_set_all(boot.s, boot.len, &why))
		init_fail(&why);
	/* Needed only beside other processes, so a failure does no harm. */
	(void)fd_write_file("/proc/self/oom_score_adj", "-1000");
	init_mark(INIT_MARK_ROOT);
	if (!net_start(boot.s, boot.len, &why))
		init_fail(&why);
	net_set_names(boot.s, boot.len, root_is_ephemeral());
	if (net_is_wanted(boot.s, boot.len))
		init_mark(INIT_MARK_NET);
	life.snapshot = !life.console && text_find(boot.s, boot.len, 'S') != NULL;
	if ((life.snapshot && !hold_prepare(&why)) || !root_seal(boot.s, boot.len, &why))
		init_fail(&why);
	return has_command;
}

static void init_stop(int signo, uint32_t kill_ms)
{
	if (life.stage > STAGE_SEND)
		return;
	life.stopped = true;
	life.deadline = clock_ms() + kill_ms;
	/* It fails if no host listens, as it may below. */
	(void)kill(-1, signo != 0 ? signo : SIGTERM);
}

/* Nothing of number 0 is left to do, but other processes may run. */
static void init_tell_warm(void)
{
	life.warm = true;
	command_forget_first();
	control_send(INIT_MSG_WARM, 0, 0, 0, NULL);
}

static void init_hold(void)
{
	struct text why = { 0 };

	if (!hold_all(true, &why))
		init_fail(&why);
	control_send(INIT_MSG_HELD, 0, 0, 0, NULL);
}

static void init_serve(void)
{
	const struct init_msg *msg;
	struct text why = { 0 };
	const char *payload;

	control_read();
	for (unsigned i = 0; i < MESSAGES_MAX && (msg = control_next(&payload)) != NULL; i++) {
		if (msg->type == INIT_MSG_RUN && life.stage <= STAGE_SEND && !life.stopped)
			command_start(msg->number, payload, msg->len);
		else if (msg->type == INIT_MSG_SIGNAL)
			command_signal(msg->number, (int)msg->value, msg->flags != 0);
		else if (msg->type == INIT_MSG_SIZE)
			command_resize(msg->number, msg->value);
		else if (msg->type == INIT_MSG_STOP)
			init_stop(msg->number, msg->value);
		else if (msg->type == INIT_MSG_HOLD && life.snapshot)
			init_hold();
		else if (msg->type == INIT_MSG_RESTORED && !restored_apply(payload, msg->len, clock_ms(), &why))
			init_fail(&why); /* the snapshot is of the time before init's first connection */
	}
}

/* False if no process is left. */
static bool init_reap(void)
{
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	/* It only says that there is something. */
	(void)read(signals, &info, sizeof(info));
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (!artifact_reaped(pid, status, &life.artifacts))
			command_reaped(pid, status);
	}
	return pid == 0;
}

static void init_enter(enum stage stage, int ms)
{
	life.stage = stage;
	life.deadline = clock_ms() + ms;
}

/* Goes on to the next stages, as many as there is nothing to wait for in. */
static void init_advance(bool alive)
{
	bool late = life.deadline != 0 && clock_ms() >= life.deadline;

	if (life.stage <= STAGE_SEND && late) {
		(void)kill(-1, SIGKILL);
		/* And those that they had just started. */
		life.deadline = clock_ms() + 100;
	}
	if (life.snapshot && !life.stopped && command_first() != NULL && command_first()->status == 0)
		init_tell_warm();
	if (life.stage == STAGE_RUN && command_first() != NULL) {
		life.stage = STAGE_SEND;
		life.deadline = 0;
		if (!life.console)
			alive |= artifact_start(boot.s, boot.len, &life.artifacts);
	}
	if (life.stage == STAGE_SEND && !artifact_is_running()) {
		init_enter(STAGE_TERM, TERM_MS);
		(void)kill(-1, SIGTERM);
	}
	if (life.stage == STAGE_TERM && (!alive || late)) {
		init_enter(STAGE_KILL, KILL_MS);
		(void)kill(-1, SIGKILL);
		late = false;
	}
	if (life.stage == STAGE_KILL && (late || (!alive && command_count() == 0)))
		life.stage = STAGE_OVER;
}

/* Data that was not stored where it belongs. */
static void init_lost(struct command_end *end, const char *what, const struct text *why)
{
	if (why->len == 0)
		return;
	end->flags |= INIT_LOST;
	text_add(&end->why, end->why.len > 0 ? "; " : "", what, why->s, NULL);
}

static void init_finish(void) __attribute__((noreturn));

static void init_finish(void)
{
	struct command_end end = *command_first();
	struct text drives = { 0 };

	leave_drives(boot.s, boot.len, &drives);
	init_lost(&end, "artifacts: ", &life.artifacts);
	init_lost(&end, "drives: ", &drives);
	if (life.console) {
		struct text status = { 0 };

		if (end.why.len > 0)
			fd_say("\nmayfly-init: ", end.why.s);
		text_add_number(&status, end.status);
		fd_say("\n" INIT_CONSOLE_STATUS, status.s);
	}
	init_end(INIT_MSG_EXIT, &end);
}

static void init_turn(void)
{
	static struct pollfd polls[2 + COMMAND_POLLS_MAX];
	bool had_control;
	int wait = -1;
	size_t count;

	/* In the turn before, or before the first one. */
	if (control_was_reset()) {
		if (init_meet_host())
			command_reconnect();
		else
			init_stop(SIGTERM, STOP_MS);
	}
	had_control = control_is_open();
	if (command_has_failed()) {
		link_settle();
		wait = 0;
	} else if (control_has_next()) {
		wait = 0;
	} else if (life.deadline != 0) {
		int64_t left = life.deadline - clock_ms();

		wait = left < 0 ? 0 : (int)left;
	}
	polls[0] = (struct pollfd){ .fd = signals, .events = POLLIN };
	polls[1] = (struct pollfd){ .fd = control_fd(), .events = control_events() };
	count = command_polls(&polls[2]);
	/* If it fails for lack of memory, the code below does no harm. */
	if (poll(polls, 2 + count, wait) < 0)
		clock_sleep_ms(1);
	/*
	 * Before a command's stream that has failed in the turn before is closed. It fails first if the reset comes
	 * while poll() looks at one connection after the other, or before a write().
	 */
	if ((polls[1].revents & POLLERR) != 0 && init_meet_host()) {
		command_reconnect();
		return;
	}
	command_turn(&polls[2]);
	control_flush();
	if ((polls[1].revents & ~POLLOUT) != 0 || control_has_next())
		init_serve();
	if (had_control && !control_is_open() && !control_was_reset())
		init_stop(SIGTERM, STOP_MS);
	init_advance(init_reap());
}

int main(int argc, char **argv, char **envp)
{
	if (getpid() != 1 || argc < 1) {
		struct text why = { 0 };

		text_add(&why, "mayfly's init runs as PID 1 of a guest\n", NULL);
		/* The status says it, too. */
		(void)fd_write(2, why.s, why.len);
		return 125;
	}
	fd_take_standard();
	init_protect();
	if (!init_prepare() && !life.snapshot)
		init_hand_over(argv, envp);
	if (command.len == 0) {
		init_tell_warm();
	} else if (life.console) {
		fd_say(INIT_CONSOLE_START, "");
		command_start_on_console(command.s, command.len);
	} else {
		command_start(0, command.s, command.len);
	}
	/* The first turn may find it over already. */
	init_advance(true);
	while (life.stage != STAGE_OVER)
		init_turn();
	init_finish();
}
