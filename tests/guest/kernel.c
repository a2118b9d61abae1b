/*
 * Tries in a guest, as root, what its kernel is asked for, and says "ok NAME" or "no NAME: REASON" for each:
 * tests/boot/kernel.bats has the list of what must be there.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <linux/userfaultfd.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MESSAGE_MAX 8192
#define NINEP_VERSION 100
#define NINEP_ATTACH 104
#define NINEP_GETATTR 24
#define NINEP_HEAD 7
#define NINEP_DIRECTORY 0x80
#define AT "/tmp/at"

static void tell(const char *name, bool ok)
{
	if (ok)
		printf("ok %s\n", name);
	else
		printf("no %s: %s\n", name, strerror(errno));
	fflush(stdout);
}

/* A listener on the loopback address, as a web server has it. */
static bool try_ipv6(void)
{
	struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	socklen_t len = sizeof(to);
	int listener = socket(AF_INET6, SOCK_STREAM, 0);
	int client = socket(AF_INET6, SOCK_STREAM, 0);

	return bind(listener, (struct sockaddr *)&to, len) == 0 && listen(listener, 1) == 0 &&
	       getsockname(listener, (struct sockaddr *)&to, &len) == 0 &&
	       connect(client, (struct sockaddr *)&to, len) == 0;
}

static bool try_keys(void)
{
	long key = syscall(SYS_add_key, "user", "mayfly", "secret", 6, KEY_SPEC_PROCESS_KEYRING);
	char text[6];

	return key >= 0 && syscall(SYS_keyctl, KEYCTL_READ, key, text, sizeof(text)) == 6 &&
	       memcmp(text, "secret", 6) == 0;
}

static bool try_userfaultfd(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

	return fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0;
}

static bool try_landlock(void)
{
	return syscall(SYS_landlock_create_ruleset, NULL, 0, 1 /* LANDLOCK_CREATE_RULESET_VERSION */) >= 1;
}

static bool try_mount(const char *what, const char *type, unsigned long flags, const char *options)
{
	return mount(what, AT, type, flags, options) == 0 && umount(AT) == 0;
}

/* The mount is complete before anyone answers. */
static bool try_fuse(void)
{
	char options[64];
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", fd);
	if (fd < 0 || mount("none", AT, "fuse", 0, options) < 0)
		return false;
	close(fd);
	return umount2(AT, MNT_DETACH) == 0;
}

/* A 9P2000.L server of one empty directory, until its client leaves. */
static void serve_9p(int fd)
{
	static uint8_t m[MESSAGE_MAX]; /* size (4 bytes), type (1), tag (2), and what belongs to the type */
	ssize_t len;

	while ((len = read(fd, m, sizeof(m))) >= NINEP_HEAD) {
		uint32_t size = NINEP_HEAD; /* as most answers are: empty */

		if (m[4] == NINEP_VERSION)
			size = (uint32_t)len; /* the version and the size of messages that the client proposes */
		else
			memset(m + NINEP_HEAD, 0, sizeof(m) - NINEP_HEAD);
		if (m[4] == NINEP_ATTACH) {
			m[NINEP_HEAD] = NINEP_DIRECTORY;
			size += 13; /* qid */
		} else if (m[4] == NINEP_GETATTR) {
			m[NINEP_HEAD] = 0xff; /* valid: mode to size */
			m[NINEP_HEAD + 1] = 0x07;
			m[NINEP_HEAD + 8] = NINEP_DIRECTORY;
			m[NINEP_HEAD + 21] = S_IFDIR & 0xff; /* mode, after the qid */
			m[NINEP_HEAD + 22] = S_IFDIR >> 8;
			size += 153;
		}
		m[4]++; /* an answer's type follows the request's */
		memcpy(m, &size, sizeof(size));
		if (write(fd, m, size) != (ssize_t)size)
			break;
	}
}

static bool try_9p(void)
{
	char options[64];
	int pair[2];
	pid_t server;
	bool ok;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		return false;
	server = fork();
	if (server == 0) {
		close(pair[0]);
		serve_9p(pair[1]);
		_exit(0);
	}
	close(pair[1]);
	snprintf(options, sizeof(options), "trans=fd,rfdno=%d,wfdno=%d,version=9p2000.L", pair[0], pair[0]);
	ok = try_mount("none", "9p", 0, options);
	close(pair[0]);
	waitpid(server, NULL, 0);
	return ok;
}

int main(void)
{
	if (mkdir(AT, 0700) < 0 && errno != EEXIST)
		return 1;
	tell("ipv6", try_ipv6());
	tell("keys", try_keys());
	tell("userfaultfd", try_userfaultfd());
	tell("landlock", try_landlock());
	tell("binfmt_misc", try_mount("none", "binfmt_misc", 0, NULL));
	tell("fuse", try_fuse());
	tell("9p", try_9p());
	return 0;
}
