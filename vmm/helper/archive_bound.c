/* What an archive unpacks to; see archive_bound.h. */
#include "vmm/helper/archive_bound.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/parse.h"
#include "vmm/base/printable.h"
#include "vmm/base/util.h"
#include "vmm/helper/spawn.h"

#define LINE_MAX_BYTES 4096 /* of the list; what a name has more is passed over */
#define SAID_MAX 4096
#define BLOCK 4096U
#define NAME_SHOWN 200

int archive_bound_init(struct archive_bound *b, struct err *e)
{
	const char *max = getenv(ARCHIVE_BOUND_ENV);

	*b = (struct archive_bound){ .max = ARCHIVE_BOUND_DEFAULT };
	if (max && *max && parse_size(max, &b->max) < 0)
		return err_set(e, -EINVAL, "$" ARCHIVE_BOUND_ENV ": must be a size such as 512M or 8G");
	return 0;
}

/* A line is "MODE OWNER/GROUP SIZE DATE TIME NAME"; of a device, "MAJOR,MINOR" is in place of the size. */
static bool take_line(struct archive_bound *b, char *line, const char **ret_name)
{
	unsigned long long size = 0;
	int at = 0;
	uint64_t blocks;

	line[strcspn(line, "\n")] = '\0';
	errno = 0;
	if (sscanf(line, "%*s %*s %llu", &size) < 1 || errno)
		size = UINT64_MAX; /* tar writes no such line */
	if (line[0] == 'c' || line[0] == 'b')
		size = 0;
	(void)sscanf(line, "%*s %*s %*s %*s %*s %n", &at); /* an empty name is shown as the line */
	*ret_name = at ? line + at : line;
	blocks = MF_MAX(size / BLOCK + (size % BLOCK != 0), (uint64_t)1);
	if (blocks > (b->max - b->bytes) / BLOCK)
		return false;
	b->bytes += blocks * BLOCK;
	return true;
}

/* Reads the list up to its end, or to the bound. */
static int take_list(struct archive_bound *b, FILE *list, struct err *e)
{
	char line[LINE_MAX_BYTES], max[PARSE_SIZE_TEXT_MAX], name[NAME_SHOWN];
	const char *found;
	bool begins = true;

	while (fgets(line, sizeof(line), list)) {
		bool ends = strchr(line, '\n');

		if (begins && !take_line(b, line, &found)) {
			parse_format_size(b->max, max);
			printable_guest(name, sizeof(name), found);
			return err_set(e, -EFBIG,
				       "with '%s' it unpacks to more than %s bytes, the most that an image may have "
				       "($" ARCHIVE_BOUND_ENV ")",
				       name, max);
		}
		begins = ends;
	}
	return 0;
}

struct program {
	const char *name;
	pid_t pid; /* 0: none */
	int said;  /* a file, or -1 */
	bool spoke;
};

static int start(struct program *p, const char *const argv[], int in, int out, const char *package, struct err *e)
{
	p->name = argv[0];
	p->said = memfd_create("mayfly-said", MFD_CLOEXEC);
	if (p->said < 0)
		return err_sys(e, "make a file for what %s says", argv[0]);
	p->pid = spawn_start(argv, (const int[SPAWN_FDS]){ in, out, p->said, -1 }, SIGKILL, package, e);
	return p->pid < 0 ? (p->pid = 0, e->code) : 0;
}

/* Waits for its end. Returns 0, or -ECHILD with e set to what it has said, if it has failed. */
static int end(struct program *p, struct err *e)
{
	static const char *const skip[] = { "tar: Error is not", "tar: Exiting", "tar: Child", NULL };
	char said[SAID_MAX];
	ssize_t len;
	int r = p->pid ? spawn_wait(p->pid, p->name, e) : 0;

	if (r < 0 && (len = fdio_pread(p->said, said, sizeof(said) - 1, 0)) > 0) {
		said[len] = '\0';
		err_set(e, -ECHILD, "%s", spawn_last_line(said, skip));
		p->spoke = true;
	}
	if (p->said >= 0)
		close(p->said);
	return r;
}

/* Starts both, the list's end of the pipe being *ret_list. */
static int start_all(struct program *tar, struct program *feeder, const char *const argv[],
		     const struct archive_feeder *by, int in, int *ret_list, struct err *e)
{
	MF_CLOSE int fed = -1;
	MF_CLOSE int to = -1;
	int ends[2];

	if (by && by->argv) {
		if (pipe2(ends, O_CLOEXEC) < 0)
			return err_sys(e, "make a pipe");
		fed = ends[0];
		to = ends[1];
		if (start(feeder, by->argv, in, to, by->package, e) < 0)
			return e->code;
		close(mf_take_fd(&to));
		in = fed;
	}
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys(e, "make a pipe");
	*ret_list = ends[0];
	to = ends[1];
	return start(tar, argv, in, to, "tar", e);
}

int archive_bound_add(struct archive_bound *b, const char *const argv[], const struct archive_feeder *by, int in,
		      struct err *e)
{
	struct program tar = { .said = -1 }, feeder = { .said = -1 };
	MF_CLOSE int from = -1;
	struct err failed;
	FILE *list = NULL;
	int r = start_all(&tar, &feeder, argv, by, in, &from, e);

	if (r == 0) {
		list = fdopen(from, "r");
		r = list ? take_list(b, list, e) : err_set(e, -ENOMEM, "out of memory");
	}
	if (r < 0 && tar.pid)
		(void)kill(-tar.pid, SIGKILL); /* it may have ended */
	if (end(&tar, &failed) < 0 && r == 0) {
		*e = failed;
		r = e->code;
	} else if (feeder.pid) {
		(void)kill(-feeder.pid, SIGKILL); /* nobody reads what follows the archive's end */
	}
	/* It ends, as nobody reads. If it fails by itself, and says why, tar's complaint is a consequence. */
	if (end(&feeder, &failed) < 0 && r == -ECHILD && feeder.spoke)
		*e = failed;
	if (list) {
		(void)mf_take_fd(&from);
		(void)fclose(list); /* only read */
	}
	return r;
}
