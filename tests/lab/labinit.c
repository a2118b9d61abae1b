/*
 * labinit: PID 1 of the lab, the emulated machine that tests/lab/lab runs commands on.
 *
 * Theory of operation
 *
 * Boot phase, once per template: mount the kernel's file systems, load the modules of /mods/order, open the virtio-serial
 * ports, say "READY" on port "ctl" and block in a read of it. That is where the state of the machine is saved: nothing
 * that stands in the way of saving it (a mounted 9p) may exist by then.
 *
 * Run phase, in every restored machine: the host answers with one line and a list of strings, each ended by a NUL
 *
 *	GO <seconds> <nanoseconds> <input> <rows> <columns> <directories> <variables> <arguments>\n
 *	<working directory> <directory>... <variable>... <argument>...
 *
 * (<input> is one of enum input.) The clock is set, the host's file system is mounted (9p, read-only) under an overlay whose upper layer is a tmpfs, each
 * of the directories is mounted on top at its own path, and the command is started there. Its output goes to the ports
 * "std" and "err", and its input comes from "std". With a terminal all three are one pty. Lines from the host meanwhile:
 *
 *	EOF <bytes>		the command's input ends after so many bytes
 *	SIZE <rows> <columns>	the terminal has a new size
 *
 * "STARTED" invites those. At the end "EXIT <status> <bytes on std> <bytes on err>" goes out. A write to a virtio-serial port returns before the
 * host has taken the bytes, so the machine lives on until the host, having seen all of them, says BYE.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <net/if.h>
#include <poll.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES	512
#define DEBUG_EXIT_PORT 0x501	/* QEMU's isa-debug-exit: a write ends the machine at once */
#define FLOW_BYTES	32768 /* the most that virtio-serial takes in one write */

#define P9_OPTIONS "trans=virtio,version=9p2000.L,msize=1048576"

enum input { INPUT_NONE, INPUT_STREAM, INPUT_TERMINAL };

/* What the host asked for; see the top. */
struct job {
	struct timespec now;
	unsigned input;
	unsigned short rows, columns;
	unsigned dirs, vars, args;
	char *cwd;
	char **dir, **var, **arg;
};

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

static int ctl = -1;

/* Tells the user (through the control port, if it is there) and the console. */
static void say(const char *format, ...)
{
	char text[LINE_MAX_BYTES];
	va_list ap;

	va_start(ap, format);
	int len = vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	if (len >= (int)sizeof(text))
		len = sizeof(text) - 1;
	int console = open("/dev/console", O_WRONLY | O_NOCTTY | O_CLOEXEC);
	/* There is nobody left to tell about a failure to tell. */
	if (ctl >= 0)
		(void)!write(ctl, text, len);
	if (console >= 0) {
		(void)!write(console, text, len);
		(void)close(console);
	}
}

static void power_off(void)
{
	outb(0, DEBUG_EXIT_PORT);
	(void)reboot(RB_POWER_OFF); /* not reached under QEMU */
	for (;;)
		(void)pause();
}

/* The lab is of no use: says why, lets the host read it, and ends the machine. */
static void fail(const char *what)
{
	say("lab: %s: %s\n", what, strerror(errno));
	(void)usleep(300000);
	power_off();
}

/* 0, or -1 after a message: some kernels lack some file systems, and most commands do not need all of them. */
static int mount_at(const char *source, const char *target, const char *type, unsigned long flags, const char *options)
{
	(void)mkdir(target, 0755); /* usually there; mount() reports the rest */
	if (mount(source, target, type, flags, options)) {
		say("lab: mount %s on %s: %s\n", type, target, strerror(errno));
		return -1;
	}
	return 0;
}

/* A setting of /proc or /sys; one that this kernel does not have is none. */
static void set(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, value, strlen(value)) < 0)
		say("lab: %s: %s\n", path, strerror(errno));
	(void)close(fd);
}

/* Each line of /mods/order is "NAME" or "NAME PARAMETERS". The files are removed on the way: they are in RAM. */
static void load_modules(void)
{
	char line[LINE_MAX_BYTES], path[LINE_MAX_BYTES + 16];
	FILE *order = fopen("/mods/order", "re");

	if (!order)
		fail("/mods/order");
	while (fgets(line, sizeof(line), order)) {
		line[strcspn(line, "\n")] = '\0';
		char *parameters = strchr(line, ' ');
		if (parameters)
			*parameters++ = '\0';
		(void)snprintf(path, sizeof(path), "/mods/%s.ko", line);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || (syscall(SYS_finit_module, fd, parameters ? parameters : "", 0) && errno != EEXIST))
			say("lab: module %s: %s\n", line, strerror(errno));
		if (fd >= 0)
			(void)close(fd);
		(void)unlink(path);
	}
	(void)fclose(order); /* only read from */
}

/* The device of the virtio-serial port called `name`, once its driver has been told of it. */
static int open_port(const char *name)
{
	char path[128], found[64];

	for (int tries = 0; tries < 2000; tries++) {
		for (int i = 1; i < 8; i++) {
			(void)snprintf(path, sizeof(path), "/sys/class/virtio-ports/vport0p%d/name", i);
			FILE *file = fopen(path, "re");
			if (!file)
				continue;
			bool same = fgets(found, sizeof(found), file) && !strcmp(strtok(found, "\n"), name);
			(void)fclose(file);
			(void)snprintf(path, sizeof(path), "/dev/vport0p%d", i);
			int fd = same ? open(path, O_RDWR | O_CLOEXEC) : -1;
			if (fd >= 0)
				return fd;
		}
		(void)usleep(1000);
	}
	errno = ENODEV;
	fail(name);
	return -1;
}

static void loopback_up(void)
{
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request))
		say("lab: lo: %s\n", strerror(errno));
	if (fd >= 0)
		(void)close(fd);
}

/* What a machine has before anything of the host is visible on it. */
static void boot(void)
{
	static const char *const links[][2] = {
		{"/proc/self/fd", "/dev/fd"},
		{"/proc/self/fd/0", "/dev/stdin"},
		{"/proc/self/fd/1", "/dev/stdout"},
		{"/proc/self/fd/2", "/dev/stderr"},
	};

	(void)mount_at("dev", "/dev", "devtmpfs", 0, NULL);
	(void)mount_at("proc", "/proc", "proc", 0, NULL);
	(void)mount_at("sys", "/sys", "sysfs", 0, NULL);
	if (iopl(3))
		fail("iopl");
	load_modules();
	loopback_up();
	/* Without favordynmods KVM_CREATE_VM waits 11 ms for RCU in attaching a kernel thread to a cgroup. */
	(void)mount_at("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, "nsdelegate,favordynmods");
	(void)mount_at("devpts", "/dev/pts", "devpts", 0, "gid=5,mode=620,ptmxmode=666");
	(void)mount_at("shm", "/dev/shm", "tmpfs", 0, "mode=1777");
	(void)mount_at("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
	(void)mount_at("tracefs", "/sys/kernel/tracing", "tracefs", 0, NULL);
	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
		(void)symlink(links[i][0], links[i][1]); /* a shell's <(...) fails by itself without them */
	(void)mkdir("/dev/net", 0755);
	(void)mknod("/dev/net/tun", S_IFCHR | 0666, makedev(10, 200)); /* devtmpfs may have made it */
	(void)chmod("/dev/net/tun", 0666);
	(void)chmod("/dev/kvm", 0666);
	set("/sys/fs/cgroup/cgroup.subtree_control", "+cpu +memory +io +pids");
	set("/proc/sys/kernel/perf_event_paranoid", "-1");
	set("/proc/sys/kernel/kptr_restrict", "0");
	set("/proc/sys/kernel/printk", "4 4 1 7");
	set("/proc/sys/vm/unprivileged_userfaultfd", "1");
	(void)sethostname("lab", 3);
	if (mount_at("tmpfs", "/m", "tmpfs", 0, "mode=755,size=75%"))
		fail("/m");
}


/* The next byte from the host, waiting for it. */
static char ctl_byte(bool *ret_more)
{
	static char data[4096];
	static ssize_t at, len;

	while (at >= len) {
		at = 0;
		len = read(ctl, data, sizeof(data));
		if (len <= 0)
			(void)usleep(1000); /* after a restore the port has no host end for a moment */
	}
	char byte = data[at++];
	*ret_more = at < len;
	return byte;
}

/* The next line from the host without its end, waiting for it; true if there is more to read already. */
static bool ctl_line(char *line, size_t size)
{
	bool more;
	size_t n = 0;

	for (char byte; (byte = ctl_byte(&more)) != '\n';)
		if (n < size - 1)
			line[n++] = byte;
	line[n] = '\0';
	return more;
}

/* The next `count` NUL-ended strings from the host, as a list that ends with a NULL. Never freed: they are in use to the end. */
static char **ctl_strings(unsigned count)
{
	char **list = calloc(count + 1, sizeof(*list));
	size_t size = 4096, len = 0;
	char *data = malloc(size);
	bool more;

	for (unsigned i = 0; list && data && i < count;) {
		data[len++] = ctl_byte(&more);
		if (data[len - 1] == '\0') {
			list[i++] = strdup(data);
			len = 0;
		}
		if (len == size)
			data = realloc(data, size *= 2);
	}
	if (!list || !data)
		fail("memory");
	free(data);
	return list;
}

static void read_job(struct job *job)
{
	char line[LINE_MAX_BYTES];

	(void)ctl_line(line, sizeof(line));
	int n = sscanf(line, "GO %ld %ld %u %hu %hu %u %u %u", &job->now.tv_sec, &job->now.tv_nsec, &job->input, &job->rows,
		       &job->columns, &job->dirs, &job->vars, &job->args);
	errno = EPROTO;
	if (n != 8 || !job->args)
		fail(line);
	job->cwd = ctl_strings(1)[0];
	job->dir = ctl_strings(job->dirs);
	job->var = ctl_strings(job->vars);
	job->arg = ctl_strings(job->args);
}

/* Makes the host's file system the root, copy-on-write, as a real root: chroot, unshare and pivot_root work on it. */
static void mount_host(const struct job *job)
{
	static const char *const moved[] = {"/proc", "/sys", "/dev"};
	char path[4200], tag[16];

	if (mount_at("host", "/m/lower", "9p", MS_RDONLY | MS_NOATIME, P9_OPTIONS ",cache=loose"))
		fail("the host's file system");
	if (mkdir("/m/up", 0755) || mkdir("/m/work", 0755) ||
	    mount_at("overlay", "/m/root", "overlay", MS_NOATIME, "lowerdir=/m/lower,upperdir=/m/up,workdir=/m/work"))
		fail("overlay");
	for (size_t i = 0; i < sizeof(moved) / sizeof(moved[0]); i++) {
		(void)snprintf(path, sizeof(path), "/m/root%s", moved[i]);
		(void)mkdir(path, 0755); /* usually there; mount() reports the rest */
		if (mount(moved[i], path, NULL, MS_MOVE, NULL))
			fail(path);
	}
	if (mount_at("tmpfs", "/m/root/run", "tmpfs", MS_NOSUID, "mode=755"))
		fail("/run");
	for (unsigned i = 0; i < job->dirs; i++) {
		(void)snprintf(path, sizeof(path), "/m/root%s", job->dir[i]);
		(void)snprintf(tag, sizeof(tag), "rw%u", i);
		if (mount_at(tag, path, "9p", 0, P9_OPTIONS ",cache=mmap"))
			fail(path);
	}
	if (chdir("/m/root") || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
		fail("root");
}

/* The command's side of fork(). `fd` are its 0, 1 and 2. */
static void run(const struct job *job, const int *fd)
{
	/* What a Debian host gives, except that locked memory has no bound. */
	static const struct rlimit files = {1024, 1 << 20}, locked = {RLIM_INFINITY, RLIM_INFINITY};
	sigset_t none;

	(void)sigemptyset(&none); /* cannot fail */
	if (setsid() < 0 || (job->input == INPUT_TERMINAL && ioctl(fd[0], TIOCSCTTY, 0)) || dup2(fd[0], 0) < 0 || dup2(fd[1], 1) < 0 ||
	    dup2(fd[2], 2) < 0 || setrlimit(RLIMIT_NOFILE, &files) || setrlimit(RLIMIT_MEMLOCK, &locked) ||
	    sigprocmask(SIG_SETMASK, &none, NULL) || signal(SIGPIPE, SIG_DFL) == SIG_ERR) {
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
		const struct winsize size = {.ws_row = job->rows, .ws_col = job->columns};
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
	const int ours[] = {cmd->in.to, cmd->in.from, cmd->out.from, cmd->err.from, cmd->out.to, cmd->err.to};
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
		run(job, fd);
	for (int i = 0; i < (job->input == INPUT_TERMINAL ? 1 : 3); i++)
		(void)close(fd[i]);
}

/* What to wait for: room for what is held, else something to hold. */
static struct pollfd flow_poll(const struct flow *flow)
{
	if (flow->len)
		return (struct pollfd){.fd = flow->to, .events = POLLOUT};
	return (struct pollfd){.fd = flow->from, .events = POLLIN};
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
	struct winsize size = {0};
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
			flow_poll(&cmd->out), flow_poll(&cmd->err),	      flow_poll(&cmd->in),
			{.fd = ctl, .events = POLLIN}, {.fd = signals, .events = POLLIN},
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

int main(void)
{
	static struct command cmd = {.input_bytes = UINT64_MAX};
	static struct job job;
	char line[LINE_MAX_BYTES];
	sigset_t child;

	boot();
	ctl = open_port("ctl");
	cmd.in.from = cmd.out.to = open_port("std");
	cmd.err.to = open_port("err");
	say("READY\n");
	read_job(&job);
	if (clock_settime(CLOCK_REALTIME, &job.now))
		say("lab: setting the clock: %s\n", strerror(errno));
	mount_host(&job);

	(void)sigemptyset(&child); /* cannot fail, nor can the next */
	(void)sigaddset(&child, SIGCHLD);
	int signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	if (sigprocmask(SIG_BLOCK, &child, NULL) || signals < 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		fail("signals");
	start(&job, &cmd);
	say("STARTED\n");
	serve(&cmd, signals);

	sync(); /* what was written to the host's directories through mappings */
	say("EXIT %d %" PRIu64 " %" PRIu64 "\n", cmd.status, cmd.out.moved, cmd.err.moved);
	do
		(void)ctl_line(line, sizeof(line));
	while (strcmp(line, "BYE") != 0);
	power_off();
}
