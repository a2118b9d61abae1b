/* What a machine that was restored from a snapshot does before any command goes on. */
#include "loader/init/restored.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "loader/init/fd.h"
#include "loader/init/process.h"
#include "loader/init/proto.h"

#define HOOK_MS 10000

static bool restored_failed(struct text *why, const char *what)
{
	text_add(why, "restore: ", what, NULL);
	text_add_error(why, errno);
	return false;
}

static bool restored_set_clock(uint64_t ns, int64_t asked, struct text *why)
{
	uint64_t then = ns + (uint64_t)(clock_ms() - asked) * 500000;
	const struct timespec now = { .tv_sec = (time_t)(then / 1000000000U), .tv_nsec = (long)(then % 1000000000U) };

	return clock_settime(CLOCK_REALTIME, &now) == 0 || restored_failed(why, "set the clock");
}

static bool restored_seed(const unsigned char *random, struct text *why)
{
	struct {
		struct rand_pool_info info;
		unsigned char bytes[INIT_RANDOM_BYTES];
	} pool = { .info = { .entropy_count = 8 * INIT_RANDOM_BYTES, .buf_size = INIT_RANDOM_BYTES } };
	int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
	bool done;

	memcpy(pool.bytes, random, sizeof(pool.bytes));
	done = fd >= 0 && ioctl(fd, RNDADDENTROPY, &pool) == 0 && ioctl(fd, RNDRESEEDCRNG) == 0;
	if (!done)
		(void)restored_failed(why, "seed the random number generator");
	fd_close(&fd);
	return done;
}

/* The process is reaped with all others, except if its status is known here. */
static int restored_wait(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0), status = -1;
	struct pollfd polled = { .fd = fd, .events = POLLIN };

	if (fd < 0 || poll(&polled, 1, HOOK_MS) <= 0)
		(void)kill(-pid, SIGKILL); /* it is reaped when it ends */
	else
		(void)waitpid(pid, &status, 0); /* it has ended */
	fd_close(&fd);
	return status;
}

static bool restored_run_hook(struct text *why)
{
	static const char list[] = "a" INIT_RESTORED_PATH;
	struct process process = { .list = list, .len = sizeof(list), .report = -1 };
	int console, status;
	pid_t pid;

	if (access(INIT_RESTORED_PATH, F_OK) < 0)
		return true;
	console = open("/dev/console", O_RDWR | O_NOCTTY | O_CLOEXEC);
	process.fds[0] = process.fds[1] = process.fds[2] = console;
	pid = (pid_t)syscall(SYS_fork);
	if (pid == 0)
		process_run(&process);
	status = pid < 0 ? -1 : restored_wait(pid);
	fd_close(&console);
	if (status != 0)
		text_add(why, "restore: " INIT_RESTORED_PATH " failed or hung", NULL);
	return status == 0;
}

bool restored_apply(const char *payload, size_t len, int64_t asked, struct text *why)
{
	struct init_restored now;
	const char *name = payload + sizeof(now);

	if (len <= sizeof(now) || payload[len - 1] != '\0') {
		errno = EPROTO;
		return restored_failed(why, "the host's message");
	}
	memcpy(&now, payload, sizeof(now));
	if (!restored_set_clock(now.realtime_ns, asked, why) || !restored_seed(now.random, why))
		return false;
	if (*name != '\0' && sethostname(name, strlen(name)) < 0)
		return restored_failed(why, "set the host name");
	return restored_run_hook(why);
}
