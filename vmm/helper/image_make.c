/* Programs that make an image; see image_make.h. */
#include "vmm/helper/image_make.h"

#include <errno.h>
#include <fcntl.h>
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

/*
 * Says that it packs, on the terminal how far it is; at the end, and there only if it was
 * not said before.
 */
static void say(const struct image_make *m, uint64_t done, bool end, bool *said)
{
	bool terminal = isatty(STDERR_FILENO) == 1;

	if (!m->files || !log_enabled(LOG_LEVEL_WARN))
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

/* Waits for the program's end, and says how far it is: *said. */
static int wait_saying(const struct image_make *m, pid_t pid, int part_fd, bool *said, struct err *e)
{
	MF_CLOSE int pidfd = pidfd_open(pid, 0); /* -1, before Linux 5.3: nothing is said until the end */
	struct pollfd poll_fd = { .fd = pidfd, .events = POLLIN };
	int wait_ms = SAY_MS, r;
	struct stat st;

	while (pidfd >= 0 && (r = poll(&poll_fd, 1, wait_ms)) <= 0) {
		if (r < 0)
			continue; /* a signal: its handler has seen to it */
		if (fstat(part_fd, &st) == 0)
			say(m, (uint64_t)st.st_blocks * 512, false, said);
		wait_ms = isatty(STDERR_FILENO) == 1 ? SHOW_MS : -1;
	}
	return spawn_wait(pid, m->argv[0], e);
}

static void close_file(int fd)
{
	if (fd >= 0)
		close(fd);
}

struct program {
	const char *name;
	pid_t pid; /* 0: none */
	int said;  /* a file, or -1 */
};

/* in, out: -1 is /dev/null. */
static int start(struct program *p, const char *const argv[], int in, int out, const char *package, struct err *e)
{
	const int fd[SPAWN_FDS] = { in, out, memfd_create("mayfly-said", MFD_CLOEXEC), -1 };

	p->name = argv[0];
	p->said = fd[2];
	p->pid = 0;
	if (p->said < 0)
		return err_sys(e, "make a file for what %s says", argv[0]);
	p->pid = spawn_start(argv, fd, SIGKILL, package, e);
	return p->pid < 0 ? (p->pid = 0, e->code) : 0;
}

/* Its last words, in place of its status. Returns false if there are none. */
static bool quote(const struct program *p, const struct image_cache *cache, struct err *e)
{
	static const char *const skip[] = { "usage", " ", "\t", "Available", NULL };
	char said[SAID_MAX];
	ssize_t len = fdio_pread(p->said, said, sizeof(said) - 1, 0);

	if (len <= 0)
		return false;
	said[len] = '\0';
	err_set(e, -ECHILD, "%s has failed: %s (its image would be in '%s')", p->name, spawn_last_line(said, skip),
		cache->path);
	return true;
}

/* Starts both programs, or the only one. A feeder without a reader ends by SIGPIPE. */
static int start_all(const struct image_make *m, struct program *maker, struct program *feeder, const char *part,
		     struct err *e)
{
	int r = 0, in = m->stdin_fd, ends[2] = { -1, -1 };

	if (m->feeder) {
		r = pipe2(ends, O_CLOEXEC) < 0 ? err_sys(e, "make a pipe") :
						 start(feeder, m->feeder, in, ends[1], m->feeder_package, e);
		in = ends[0];
	}
	if (r == 0) {
		ending_hold(true);
		r = start(maker, m->argv, in, -1, m->package, e);
		ending_child(maker->pid, part);
		ending_hold(false);
	}
	close_file(ends[0]);
	close_file(ends[1]);
	return r;
}

/* Runs the programs, of which the last writes to part. */
static int run_programs(const struct image_make *m, struct image_cache_part *part, struct err *e)
{
	struct program maker = { .said = -1 }, feeder = { .said = -1 };
	struct err feeder_e;
	bool said = false;
	int r, fed = 0;

	log_info("packing '%s'", m->source);
	notify_status("packing a directory");
	r = start_all(m, &maker, &feeder, part->path, e);
	if (maker.pid) {
		r = wait_saying(m, maker.pid, part->fd, &said, e);
		ending_child(0, part->path);
		if (r == -ECHILD && !quote(&maker, m->cache, e))
			r = err_wrap(e, "pack it");
	}
	if (feeder.pid)
		fed = spawn_wait(feeder.pid, feeder.name, &feeder_e);
	/* If the feeder fails by itself, the other one's complaint is a consequence. */
	if (fed < 0 && (quote(&feeder, m->cache, &feeder_e) || r == 0)) {
		*e = feeder_e;
		r = e->code;
	}
	if (r == 0 || said)
		say(m, m->bytes, true, &said);
	close_file(maker.said);
	close_file(feeder.said);
	return r;
}

int image_make(const struct image_make *m, const char *name, struct err *e)
{
	struct image_cache_part part;
	struct err none;
	int r = image_cache_begin(m->cache, name, &part, e);

	if (r < 0)
		return r;
	*m->out = part.path;
	r = run_programs(m, &part, e);
	ending_hold(true); /* the handlers know part.path */
	ending_child(0, NULL);
	if (r == 0)
		r = image_cache_end(m->cache, &part, m->source, e);
	else
		(void)image_cache_end(m->cache, &part, NULL, &none); /* e says what is wrong */
	ending_hold(false);
	return r;
}
