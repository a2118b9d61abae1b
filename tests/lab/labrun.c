/*
 * The command that the lab runs, and its streams; see labinit.c.
 *
 * One poll() loop moves bytes between the command and the ports. Each direction holds at most one piece, and waits for
 * room for that before it reads another: a stream that nobody takes holds up the command, but no other stream.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lab/labinit.h"

#define FLOW_BYTES 32768 /* the most that virtio-serial takes in one write */

/* Bytes on their way between the command and a port, both non-blocking. `from` is -1 after its end. */
struct flow {
	int from, to;
	char data[FLOW_BYTES];
	size_t at, len; /* what of data is still to be written */
	uint64_t moved;
};

/* The command while it runs. */
struct command {
	pid_t pid;
	int status;
	bool done;
	uint64_t input_bytes; /* where its input ends; UINT64_MAX as long as nobody knows */
	struct flow in, out, err;
};

/* The command's side of fork(). `fd` are its 0, 1 and 2. */
static void be_command(const struct job *job, const int *fd)
{
	/* What a Debian host gives, except that locked memory has no bound. */
	static const struct rlimit files = { 1024, 1 << 20 }, locked = { RLIM_INFINITY, RLIM_INFINITY };
	sigset_t none;

	(void)sigemptyset(&none); /* cannot fail */
	if (setsid() < 0 || (job->input == INPUT_TERMINAL && ioctl(fd[0], TIOCSCTTY, 0)) || dup2(fd[0], 0) < 0 ||
	    dup2(fd[1], 1) < 0 || dup2(fd[2], 2) < 0 || setrlimit(RLIMIT_NOFILE, &files) ||
	    setrlimit(RLIMIT_MEMLOCK, &locked) || sigprocmask(SIG_SETMASK, &none, NULL) ||
	    signal(SIGPIPE, SIG_DFL) == SIG_ERR) {
		say("lab: starting the command: %s\n", strerror(errno));
		_exit(125);
	}
	if (chdir(job->cwd)) {
		(void)dprintf(2, "lab: %s: %s\n", job->cwd, strerror(errno));
		_exit(125);
	}
	environ = job->var;
	(void)execvp(job->arg[0], job->arg);
	(void)dprintf(2, "lab: %s: %s\n", job->arg[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

/* Gives the command's 0, 1 and 2 in `fd` and our ends of them in `cmd`. */
static void make_streams(const struct job *job, struct command *cmd, int *fd)
{
	int in[2], out[2], err[2];

	if (job->input == INPUT_TERMINAL) {
		const struct winsize size = { .ws_row = job->rows, .ws_col = job->columns };
		int master;
		if (openpty(&master, &fd[0], NULL, NULL, &size) || fcntl(master, F_SETFD, FD_CLOEXEC))
			fail("pty");
		fd[1] = fd[2] = fd[0];
		cmd->in.to = cmd->out.from = master;
		cmd->err.from = -1;
	} else {
		if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
			fail("pipe");
		if (job->input == INPUT_NONE) {
			(void)close(in[0]);
			in[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
			cmd->input_bytes = 0;
		}
		fd[0] = in[0];
		fd[1] = out[1];
		fd[2] = err[1];
		cmd->in.to = in[1];
		cmd->out.from = out[0];
		cmd->err.from = err[0];
	}
	const int ours[] = { cmd->in.to, cmd->in.from, cmd->out.from, cmd->err.from, cmd->out.to, cmd->err.to };
	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		if (ours[i] >= 0 && fcntl(ours[i], F_SETFL, fcntl(ours[i], F_GETFL) | O_NONBLOCK))
			fail("O_NONBLOCK");
}

static void start(const struct job *job, struct command *cmd)
{
	int fd[3];

	make_streams(job, cmd, fd);
	cmd->pid = fork();
	if (cmd->pid < 0)
		fail("fork");
	if (cmd->pid == 0)
		be_command(job, fd);
	for (int i = 0; i < (job->input == INPUT_TERMINAL ? 1 : 3); i++)
		(void)close(fd[i]);
}

/* What to wait for: room for what is held, else something to hold. */
static struct pollfd flow_poll(const struct flow *flow)
{
	if (flow->len)
		return (struct pollfd){ .fd = flow->to, .events = POLLOUT };
	return (struct pollfd){ .fd = flow->from, .events = POLLIN };
}

/* One read or one write, after poll() has told that it does not block. */
static void flow_move(struct flow *flow, size_t most)
{
	ssize_t n;

	if (flow->len) {
		n = write(flow->to, flow->data + flow->at, flow->len);
		if (n > 0) {
			flow->at += n;
			flow->len -= n;
		} else if (n < 0 && errno != EAGAIN && errno != EINTR) {
			flow->len = 0; /* nobody reads it any more: here that is the command's input */
			flow->from = -1;
		}
		return;
	}
	n = read(flow->from, flow->data, most < FLOW_BYTES ? most : FLOW_BYTES);
	if (n > 0) {
		flow->at = 0;
		flow->len = n;
		flow->moved += n;
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		flow->from = -1; /* the end; of a pty: EIO */
	}
}

/* The input ends where the host says so, because the port that it comes through never does. */
static void input_step(struct command *cmd, bool ready)
{
	struct flow *in = &cmd->in;

	if (ready)
		flow_move(in, cmd->input_bytes - in->moved);
	if (in->moved == cmd->input_bytes)
		in->from = -1;
	if (in->from < 0 && in->len == 0 && in->to >= 0) {
		if (in->to != cmd->out.from)
			(void)close(in->to); /* a pipe; a pty is still read from */
		in->to = -1;
	}
}

static void obey_host(struct command *cmd)
{
	struct winsize size = { 0 };
	char line[LINE_MAX_BYTES];
	bool more;

	do {
		more = ctl_line(line, sizeof(line));
		if (sscanf(line, "SIZE %hu %hu", &size.ws_row, &size.ws_col) == 2)
			(void)ioctl(cmd->out.from, TIOCSWINSZ, &size); /* the pty may just have gone */
		else
			(void)sscanf(line, "EOF %" SCNu64, &cmd->input_bytes);
	} while (more);
}

/* Every orphan of the machine becomes ours; one of the children is the command. */
static void reap(struct command *cmd, int signals)
{
	struct signalfd_siginfo info;
	int status;

	(void)!read(signals, &info, sizeof(info)); /* only empties it: one may stand for many */
	for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
		if (pid == cmd->pid) {
			cmd->done = true;
			cmd->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		}
	}
}

/* Runs until the command has ended and all that it had written is on its way; a child it leaves behind does not count. */
static void serve(struct command *cmd, int signals)
{
	for (;;) {
		bool held = cmd->out.len || cmd->err.len;
		struct pollfd fds[] = {
			flow_poll(&cmd->out),
			flow_poll(&cmd->err),
			flow_poll(&cmd->in),
			{ .fd = ctl_fd(), .events = POLLIN },
			{ .fd = signals, .events = POLLIN },
		};
		if (poll(fds, sizeof(fds) / sizeof(fds[0]), cmd->done && !held ? 0 : -1) < 0)
			fail("poll");
		if (fds[0].revents)
			flow_move(&cmd->out, FLOW_BYTES);
		if (fds[1].revents)
			flow_move(&cmd->err, FLOW_BYTES);
		if (fds[3].revents)
			obey_host(cmd);
		input_step(cmd, fds[2].revents);
		if (cmd->done && !held && !fds[0].revents && !fds[1].revents)
			return;
		reap(cmd, signals);
	}
}

void run_job(const struct job *job, int std_port, int err_port)
{
	static struct command cmd = { .input_bytes = UINT64_MAX };
	char line[LINE_MAX_BYTES];
	sigset_t child;

	cmd.in.from = cmd.out.to = std_port;
	cmd.err.to = err_port;
	(void)sigemptyset(&child); /* cannot fail, nor can the next */
	(void)sigaddset(&child, SIGCHLD);
	int signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	if (sigprocmask(SIG_BLOCK, &child, NULL) || signals < 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		fail("signals");
	start(job, &cmd);
	say("STARTED\n");
	serve(&cmd, signals);

	sync(); /* what was written to the host's directories through mappings */
	say("EXIT %d %" PRIu64 " %" PRIu64 "\n", cmd.status, cmd.out.moved, cmd.err.moved);
	do
		(void)ctl_line(line, sizeof(line));
	while (strcmp(line, "BYE") != 0);
	power_off();
}
