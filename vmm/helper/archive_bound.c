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

int archive_bound_add(struct archive_bound *b, const char *const argv[], int in, struct err *e)
{
	static const char *const skip[] = { NULL };
	MF_CLOSE int file = memfd_create("mayfly-said", MFD_CLOEXEC);
	MF_CLOSE int from = -1;
	MF_CLOSE int to = -1;
	char said[SAID_MAX];
	int ends[2], r;
	struct err failed;
	ssize_t len;
	FILE *list;
	pid_t pid;

	if (file < 0 || pipe2(ends, O_CLOEXEC) < 0)
		return err_sys(e, "make a file and a pipe for what tar says");
	from = ends[0];
	to = ends[1];
	pid = spawn_start(argv, (const int[SPAWN_FDS]){ in, to, file, -1 }, SIGKILL, "tar", e);
	if (pid < 0)
		return pid;
	close(mf_take_fd(&to));
	list = fdopen(from, "r");
	r = list ? take_list(b, list, e) : err_set(e, -ENOMEM, "out of memory");
	if (r < 0)
		(void)kill(-pid, SIGKILL); /* it may have ended */
	if (spawn_wait(pid, "tar", &failed) < 0 && !r) {
		len = fdio_pread(file, said, sizeof(said) - 1, 0);
		said[MF_MAX(len, (ssize_t)0)] = '\0';
		r = err_set(e, -ECHILD, "%s", len > 0 ? spawn_last_line(said, skip) : failed.text);
	}
	if (list) {
		(void)mf_take_fd(&from);
		(void)fclose(list); /* only read */
	}
	return r;
}
