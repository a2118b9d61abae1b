/*
 * passt as a child process; see passt.h.
 *
 * It stays in the foreground, so that it is a child: its end is seen (SIGCHLD), and it gets SIGTERM when mayfly ends,
 * however that ends (PR_SET_PDEATHSIG; a passt started by root changes its user and loses that, but it also ends when the
 * other end of its socket is closed). It takes some 20 ms to start; nobody waits for that, the guest takes longer.
 *
 * What it says goes into a pipe, of which the last line is quoted when it ends by itself. The pipe is non-blocking: of a
 * passt that says more than a pipe holds, the rest is lost, and it goes on.
 */
#include "vmm/helper/passt.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/printable.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"

#define PASST_ARGS_MAX (20 + 2 * CONFIG_FORWARDS_MAX)
#define PASST_SAID_MAX 4096

/* The child's descriptors; all others are closed. */
enum { CHILD_SOCKET = STDERR_FILENO + 1, CHILD_REPORT, CHILD_FDS };

/* In the child: puts a copy of from, which is above all of them, at to. */
static bool put_fd(int from, int to)
{
	return from >= CHILD_FDS && dup2(from, to) == to;
}

/* In the child, which has one thread: becomes passt, or ends with errno written to report. */
static void __attribute__((noreturn)) become_passt(pid_t parent, const int fd[CHILD_FDS], char *const argv[])
{
	int high[CHILD_FDS], null, code;
	sigset_t none;

	/* Its own group: Ctrl-C on the terminal is mayfly's affair. */
	(void)setpgid(0, 0);
	if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0 || getppid() != parent)
		_exit(1);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL); /* cannot fail, nor can these */
	(void)signal(SIGPIPE, SIG_DFL);
	(void)signal(SIGXFSZ, SIG_DFL);
	null = open("/dev/null", O_RDWR);
	for (int i = 0; i < CHILD_FDS; i++)
		high[i] = fcntl(i <= STDOUT_FILENO ? null : fd[i], F_DUPFD_CLOEXEC, CHILD_FDS);
	for (int i = 0; i < CHILD_FDS; i++)
		if (!put_fd(high[i], i))
			_exit(1);
	(void)fcntl(CHILD_REPORT, F_SETFD, FD_CLOEXEC); /* cannot fail */
	closefrom(CHILD_FDS);
	execvp(argv[0], argv);
	code = errno;
	(void)!write(CHILD_REPORT, &code, sizeof(code)); /* if it fails, passt seems to have ended at once */
	_exit(1);
}

/* Forks and returns when the child is passt. fd: what is to be at CHILD_SOCKET and stderr. */
static int spawn(pid_t *ret, int socket, int err_fd, char *const argv[], struct err *e)
{
	MF_CLOSE int read_end = -1;
	MF_CLOSE int write_end = -1;
	int report[2], code = 0;
	pid_t parent = getpid(), pid;
	ssize_t n;

	if (pipe2(report, O_CLOEXEC) < 0)
		return err_sys(e, "make a pipe");
	read_end = report[0];
	write_end = report[1];
	pid = fork();
	if (pid < 0)
		return err_sys(e, "fork");
	if (pid == 0) {
		const int fd[CHILD_FDS] = { -1, -1, err_fd, socket, write_end };

		become_passt(parent, fd, argv);
	}
	close(mf_take_fd(&write_end));
	do
		n = read(read_end, &code, sizeof(code));
	while (n < 0 && errno == EINTR);
	if (n == (ssize_t)sizeof(code)) {
		(void)waitpid(pid, NULL, 0); /* it is ours and has ended */
		if (code == ENOENT)
			return err_set(e, -code, "passt is not installed ('apt install passt')");
		return err_neg(e, -code, "start passt");
	}
	*ret = pid;
	return 0;
}

/* The guest's addresses, if they are given, instead of the host's. Returns how many arguments they are. */
static int put_addresses(const char **argv, const struct config_net *n, char address[INET_ADDRSTRLEN + 4], char mask[4])
{
	int args = 0;
	size_t len;

	if (!n->ip)
		return 0;
	len = strcspn(n->ip, "/"); /* checked: ADDRESS/PREFIX */
	snprintf(address, INET_ADDRSTRLEN + 4, "%.*s", (int)len, n->ip);
	snprintf(mask, 4, "%s", n->ip + len + 1);
	argv[args++] = "--address";
	argv[args++] = address;
	argv[args++] = "--netmask";
	argv[args++] = mask;
	if (n->gateway) {
		argv[args++] = "--gateway";
		argv[args++] = n->gateway;
	}
	if (n->dns) {
		argv[args++] = "--dns-forward";
		argv[args++] = n->dns;
	}
	return args;
}

int passt_start(struct passt *p, const struct config_net *n, unsigned mtu, struct err *e)
{
	MF_CLOSE int socket = -1;
	MF_CLOSE int child_socket = -1;
	MF_CLOSE int err_write = -1;
	char mtu_text[16], fd_text[16], address[INET_ADDRSTRLEN + 4], mask[4];
	const char *argv[PASST_ARGS_MAX] = { "passt", "--foreground", "--quiet", "--stderr",
					     "--fd",  fd_text,	      "--mtu",	 mtu_text };
	int pair[2], said[2], args = 8;

	snprintf(fd_text, sizeof(fd_text), "%d", CHILD_SOCKET);
	snprintf(mtu_text, sizeof(mtu_text), "%u", mtu);
	args += put_addresses(argv + args, n, address, mask);
	for (unsigned i = 0; i < n->num_forwards; i++) {
		argv[args++] = n->forward[i].udp ? "--udp-ports" : "--tcp-ports";
		argv[args++] = n->forward[i].ports;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, "make a socket pair");
	socket = pair[0];
	child_socket = pair[1];
	if (pipe2(said, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_sys(e, "make a pipe");
	err_write = said[1];
	*p = (struct passt){ .id = n->id, .socket = -1, .err_fd = said[0] };
	if (spawn(&p->pid, child_socket, err_write, (char *const *)(uintptr_t)argv, e) < 0) {
		close(p->err_fd);
		return e->code;
	}
	p->socket = mf_take_fd(&socket);
	return 0;
}

/* The last line in text that says something, printable: the guest's frames are what it says something about. Cuts text. */
static const char *last_line(char *text)
{
	static char nothing[] = "it said nothing";
	char *best = nothing;
	char *rest = text, *line;

	while ((line = strsep(&rest, "\n"))) {
		/* Where there is no syslog it says so, once for each line. */
		if (*line && strncmp(line, "Failed to send", 14) != 0 && strncmp(line, "Don't run as root", 17) != 0)
			best = line;
	}
	printable_guest(best, strlen(best) + 1, best);
	return best;
}

int passt_check(struct passt *p, struct err *e)
{
	char said[PASST_SAID_MAX];
	ssize_t len;
	int status;

	if (p->pid == 0 || waitpid(p->pid, &status, WNOHANG) != p->pid)
		return 0;
	p->pid = 0;
	len = read(p->err_fd, said, sizeof(said) - 1);
	said[len > 0 ? len : 0] = '\0';
	close(p->err_fd);
	return err_set(e, -ECHILD, "net '%s': passt has ended: %s", p->id, last_line(said));
}

void passt_end(struct passt *p)
{
	if (p->pid == 0)
		return;
	/* Its socket ends it. Not waited for: it may take its time. */
	if (p->socket >= 0)
		close(p->socket);
	close(p->err_fd);
	p->pid = 0;
}
