/* Programs that make an image; see image_make.h. */
#include "vmm/helper/image_make.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/log.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"
#include "vmm/helper/image_cache.h"
#include "vmm/helper/spawn.h"
#include "vmm/process/ending.h"
#include "vmm/process/notify.h"

#define SAY_MS 1000 /* packing that takes longer says so meanwhile, else at its end */
#define SHOW_MS 200 /* between two states of the progress on a terminal */
#define SAID_MAX 4096

/* Says that it packs, on the terminal how far it is; at the end, and there only if it was not said before. */
static void say(const struct image_make *m, uint64_t done, bool end, bool *said)
{
	bool terminal = isatty(STDERR_FILENO) == 1;

	if (!log_enabled(LOG_LEVEL_WARN))
		return;
	if (terminal && *said)
		fprintf(stderr, "\r\033[K");
	if (terminal && !end)
		fprintf(stderr, "mayfly: packing: %.1f of %.1f MiB", (double)MF_MIN(done, m->bytes) / (double)MIB,
			(double)m->bytes / (double)MIB);
	else if (terminal || !*said)
		report_line("packing '%s': %llu files, %.1f MiB%s", m->shown, (unsigned long long)m->files,
			    (double)m->bytes / (double)MIB, end ? ", done" : "");
	*said = true;
}

/* Waits for the program's end, and says how far it is. */
static int wait_saying(const struct image_make *m, pid_t pid, int part_fd, struct err *e)
{
	MF_CLOSE int pidfd = pidfd_open(pid, 0); /* -1, before Linux 5.3: nothing is said until the end */
	struct pollfd poll_fd = { .fd = pidfd, .events = POLLIN };
	int wait_ms = SAY_MS, r;
	bool said = false;
	struct stat st;

	while (pidfd >= 0 && (r = poll(&poll_fd, 1, wait_ms)) <= 0) {
		if (r < 0)
			continue; /* a signal: its handler has seen to it */
		if (fstat(part_fd, &st) == 0)
			say(m, (uint64_t)st.st_blocks * 512, false, &said);
		wait_ms = isatty(STDERR_FILENO) == 1 ? SHOW_MS : -1;
	}
	r = spawn_wait(pid, m->argv[0], e);
	if (r == 0 || said)
		say(m, m->bytes, true, &said);
	return r;
}

/* The last words of the program, in place of its status. */
static int quote(const char *name, const struct image_cache *cache, int said_fd, struct err *e)
{
	static const char *const skip[] = { "usage", " ", "\t", "Available", NULL };
	char said[SAID_MAX];
	ssize_t len = fdio_pread(said_fd, said, sizeof(said) - 1, 0);

	if (len <= 0)
		return err_wrap(e, "pack it");
	said[len] = '\0';
	return err_set(e, -ECHILD, "%s has failed: %s (its image would be in '%s')", name, spawn_last_line(said, skip),
		       cache->path);
}

/* Runs the program, which writes to part. */
static int run_program(const struct image_make *m, struct image_cache_part *part, struct err *e)
{
	MF_CLOSE int said = memfd_create("mayfly-said", MFD_CLOEXEC);
	const int fd[SPAWN_FDS] = { m->stdin_fd, -1, said, -1 };
	pid_t pid;
	int r;

	if (said < 0)
		return err_sys(e, "make a file for what %s says", m->argv[0]);
	log_info("packing '%s'", m->source);
	notify_status("packing a directory");
	ending_hold(true);
	pid = spawn_start(m->argv, fd, SIGKILL, m->package, e);
	ending_child(MF_MAX(pid, 0), part->path);
	ending_hold(false);
	if (pid < 0)
		return pid;
	r = wait_saying(m, pid, part->fd, e);
	ending_child(0, part->path);
	return r == -ECHILD ? quote(m->argv[0], m->cache, said, e) : r;
}

int image_make(const struct image_make *m, const char *name, struct err *e)
{
	struct image_cache_part part;
	struct err none;
	int r = image_cache_begin(m->cache, name, &part, e);

	if (r < 0)
		return r;
	*m->out = part.path;
	r = run_program(m, &part, e);
	ending_hold(true); /* the handlers know part.path */
	ending_child(0, NULL);
	if (r == 0)
		r = image_cache_end(m->cache, &part, m->source, e);
	else
		(void)image_cache_end(m->cache, &part, NULL, &none); /* e says what is wrong */
	ending_hold(false);
	return r;
}
