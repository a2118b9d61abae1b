/*
 * The sandbox of a live directory's server; see live_sandbox.h.
 *
 * Theory of operation. diod follows names on behalf of the guest, among them "..", and links that the guest has made. It is
 * not trusted to stay in the directory: it has nothing else. There are two processes:
 *
 *	init	is PID 1 of its namespaces. It builds the root, a tmpfs with the directory at INIT_LIVE_EXPORT and the host's
 *		/usr, and starts the server. When the server has answered a first message, it has been loaded: init unmounts
 *		/usr, makes the tmpfs read-only, drops its capabilities, and waits for the server's end.
 *	server	diod, with the capabilities that a file server needs, without a network, and with a seccomp filter.
 *
 * The mounts of the directory lead to no device, and those of a read-only volume cannot be written through, whatever the
 * guest asks for. A device node cannot be made either: that takes a capability which the server lacks.
 *
 * An ordinary user's sandbox has a user namespace, in which this user is root. The server changes to the guest's user for
 * each request, so other users need ids of their own: newuidmap(1) maps those that the host has set aside for this user.
 */
#include "vmm/helper/live_sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jailer/namespaces.h"
#include "jailer/privileges.h"
#include "jailer/seccomp.h"
#include "loader/init/proto.h"
#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/util.h"
#include "vmm/helper/live_filter.h"
#include "vmm/helper/subids.h"

#define SERVER "/usr/sbin/diod"
#define SERVER_MS 8000 /* to be loaded, and to answer */
#define SERVER_FILES 16384
#define SERVER_DATA (512 * MIB)
#define SERVER_STACK (256 * KIB) /* of each thread */
#define VERSION "9P2000.L"

/* It acts for all users of the guest, in files of the directory alone. */
#define SERVER_CAPABILITIES                                                                                            \
	(1ULL << CAP_CHOWN | 1ULL << CAP_DAC_OVERRIDE | 1ULL << CAP_FOWNER | 1ULL << CAP_FSETID | 1ULL << CAP_SETGID | \
	 1ULL << CAP_SETUID)

/* Tversion and Rversion of 9P2000.L, but for the type. */
struct version {
	uint32_t size;
	uint8_t type;
	uint16_t tag;
	uint32_t msize;
	uint16_t len;
	char text[sizeof(VERSION) - 1];
} __attribute__((packed));

enum { TVERSION = 100, RVERSION = 101 };

/* What mayfly tells init: which ids the sandbox has. */
enum { IDS_ROOT = 'r', IDS_MANY = 'm' };

/* In the server, before it is one. */

static int limit_server(bool own_groups, struct err *e)
{
	const struct rlimit files = { SERVER_FILES, SERVER_FILES }, data = { SERVER_DATA, SERVER_DATA },
			    stack = { SERVER_STACK, SERVER_STACK }, none = { 0, 0 };
	struct rlimit now;

	if (getrlimit(RLIMIT_NOFILE, &now) < 0 ||
	    (now.rlim_max > SERVER_FILES && setrlimit(RLIMIT_NOFILE, &files) < 0) ||
	    setrlimit(RLIMIT_DATA, &data) < 0 || setrlimit(RLIMIT_STACK, &stack) < 0 ||
	    setrlimit(RLIMIT_CORE, &none) < 0)
		return err_sys(e, "set limits");
	for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (!(SERVER_CAPABILITIES >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			return err_sys(e, "limit its capabilities");
	return seccomp_no_new_privs(e) < 0 ? e->code : live_filter_load(own_groups, e);
}

static void __attribute__((noreturn)) become_server(int server, int said, bool own_groups)
{
	static const char *const argv[] = { "diod", "-f", "-n", "-N",	  "-r", "0",
					    "-w",   "0",  "-L", "stderr", "-e", INIT_LIVE_EXPORT,
					    NULL };
	static const char *const environment[] = { "MALLOC_ARENA_MAX=2", NULL };
	struct err e;
	sigset_t none;

	sigemptyset(&none);
	(void)signal(SIGPIPE, SIG_DFL); /* cannot fail, nor can these */
	(void)signal(SIGXFSZ, SIG_DFL);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	if (dup2(server, STDIN_FILENO) < 0 || dup2(said, STDOUT_FILENO) < 0 || dup2(said, STDERR_FILENO) < 0)
		_exit(1);
	closefrom(STDERR_FILENO + 1);
	if (limit_server(own_groups, &e) == 0) {
		(void)umask(0);
		execve(SERVER, (char *const *)(uintptr_t)argv, (char *const *)(uintptr_t)environment);
		err_sys(&e, "start " SERVER);
	}
	(void)dprintf(STDERR_FILENO, "%s\n", e.text);
	_exit(1);
}

/* In init. */

/* Moves a copy of the mounts at a path, with further attributes, to a new directory. */
static int place(int tree, uint64_t attributes, const char *at, struct err *e)
{
	struct mount_attr attr = { .attr_set = attributes };

	if (mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) < 0)
		return err_sys(e, "limit a mount");
	if (mkdir(at, 0755) < 0 || move_mount(tree, "", AT_FDCWD, at, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_sys(e, "mount '%s'", at);
	return 0;
}

/* The working directory is the one that is served. */
static int build_root(bool read_only, struct err *e)
{
	const uint64_t harmless = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
	MF_CLOSE int dir = open_tree(AT_FDCWD, ".", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	MF_CLOSE int usr = open_tree(AT_FDCWD, "/usr", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);

	if (dir < 0 || usr < 0)
		return err_sys(e, "copy the mounts of the directory, and of /usr");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_sys(e, "make the mounts private");
	if (mount("live", "/", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=64k,nr_inodes=16") < 0)
		return err_sys(e, "mount a tmpfs");
	/* On top of the root; only its parent, which is itself, leads there. */
	if (chdir("/..") < 0)
		return err_sys(e, "enter the tmpfs");
	if (place(dir, harmless | MOUNT_ATTR_NOEXEC | (read_only ? MOUNT_ATTR_RDONLY : 0), &INIT_LIVE_EXPORT[1], e) <
		    0 ||
	    place(usr, harmless | MOUNT_ATTR_RDONLY, "usr", e) < 0)
		return e->code;
	if (symlink("usr/lib", "lib") < 0 || symlink("usr/lib64", "lib64") < 0)
		return err_sys(e, "make the links of /usr");
	return namespaces_pivot(e);
}

/* The server is loaded: takes away what was needed for that. */
static int empty_root(struct err *e)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY };

	if (umount2("/usr", MNT_DETACH) < 0 || rmdir("/usr") < 0 || unlink("/lib") < 0 || unlink("/lib64") < 0 ||
	    mount_setattr(AT_FDCWD, "/", 0, &attr, sizeof(attr)) < 0)
		return err_sys(e, "take /usr away");
	return privileges_drop(0, e);
}

/* Asks the server for the version of the protocol. The guest will ask again, which begins a new session. */
static int ask(int guest, struct err *e)
{
	struct version v = { .size = sizeof(v),
			     .type = TVERSION,
			     .tag = UINT16_MAX,
			     .msize = INIT_LIVE_MSIZE,
			     .len = sizeof(v.text),
			     .text = VERSION };
	struct pollfd answer = { .fd = guest, .events = POLLIN };
	size_t len = 0;
	ssize_t n;

	n = write(guest, &v, sizeof(v));
	while (n > 0 && len < sizeof(v)) {
		if (poll(&answer, 1, SERVER_MS) <= 0)
			return err_set(e, -ETIMEDOUT, "it does not answer");
		n = read(guest, (char *)&v + len, sizeof(v) - len);
		len += n > 0 ? (size_t)n : 0;
	}
	if (len < sizeof(v))
		return err_set(e, -ECHILD, "it has ended"); /* and has said why */
	if (v.size != sizeof(v) || v.type != RVERSION || memcmp(v.text, VERSION, sizeof(v.text)) != 0)
		return err_set(e, -EPROTO, "it does not speak " VERSION);
	return 0;
}

/* Waits for the end of the server. Returns the status to end with, as live_sandbox_start has it. */
static int wait_for(pid_t server)
{
	int status = 0;

	while (waitpid(server, &status, 0) < 0 && errno == EINTR)
		;
	return WIFSIGNALED(status) ? LIVE_SANDBOX_SIGNAL + WTERMSIG(status) : status != 0;
}

static int init(const struct live_sandbox *s, int go, struct err *e)
{
	sigset_t all;
	pid_t server;
	char ids;

	sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, NULL); /* cannot fail */
	(void)setpgid(0, 0);			    /* Ctrl-C on the terminal is mayfly's affair */
	(void)prctl(PR_SET_NAME, "mayfly-live");
	/* Before the new mount namespace, which the working directory then is in. */
	if (fchdir(s->dir) < 0)
		return err_sys(e, "enter the directory");
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || fdio_read(go, &ids, 1) != 1)
		return err_set(e, -ECANCELED, "mayfly has gone");
	if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP) < 0)
		return err_sys(e, "make namespaces");
	if (build_root(s->read_only, e) < 0)
		return e->code;
	server = fork();
	if (server < 0)
		return err_sys(e, "fork");
	if (server == 0)
		become_server(s->server, s->said, ids == IDS_MANY);
	close(s->server); /* or its end would not be seen */
	if (ask(s->guest, e) == -ECHILD)
		_exit(wait_for(server));
	if (e->code < 0 || empty_root(e) < 0)
		return e->code;
	if (write(s->ready, "", 1) != 1)
		return err_sys(e, "tell mayfly");
	if (close_range(0, ~0U, 0) < 0)
		return err_sys(e, "close descriptors");
	_exit(wait_for(server));
}

/* In mayfly. */

pid_t live_sandbox_start(const struct live_sandbox *s, struct err *e)
{
	const bool is_root = geteuid() == 0;
	MF_CLOSE int go_read = -1;
	MF_CLOSE int go_write = -1;
	bool many = is_root;
	int go[2], r;
	char ids;
	pid_t pid;

	if (access(SERVER, X_OK) < 0)
		return err_set(e, -ENOENT,
			       "a live directory needs diod ('apt install diod'); with ':copy' the guest gets a copy");
	if (pipe2(go, O_CLOEXEC) < 0)
		return err_sys(e, "make a pipe");
	go_read = go[0];
	go_write = go[1];
	/* fork(2) into namespaces, which libc has no function for. */
	pid = (pid_t)syscall(SYS_clone, CLONE_NEWPID | (is_root ? 0 : CLONE_NEWUSER) | SIGCHLD, NULL, NULL, NULL, NULL);
	if (pid < 0)
		return err_sys(e, "make %s namespace for its server", is_root ? "a PID" : "a user and a PID");
	if (pid == 0) {
		close(mf_take_fd(&go_write));
		(void)init(s, go_read, e);
		(void)dprintf(s->said, "%s\n", e->text);
		_exit(1);
	}
	r = is_root ? 0 : subids_map(pid, &many, e);
	ids = many ? IDS_MANY : IDS_ROOT;
	if (!r && write(go_write, &ids, 1) != 1)
		r = err_sys(e, "start its server");
	if (r < 0) {
		(void)kill(pid, SIGKILL);
		(void)waitpid(pid, NULL, 0); /* it waits for a byte, and dies at once */
		return r;
	}
	return pid;
}
