/* Jobs of load.c in the files of a directory, /d, of the host: see there. */
#include "perf/load.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIRECTORY "/d"
#define PATH_SIZE 64
#define FILE_BYTES_MAX (1024 * 1024)

static unsigned made; /* jobs that have made files: each has names of its own */

/* The host's files have names of their numbers. */
static void name_file(char path[PATH_SIZE], const char *kind, uint64_t n)
{
	(void)snprintf(path, PATH_SIZE, DIRECTORY "/%s%llu", kind, (unsigned long long)n);
}

static int open_file(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0644);

	if (fd < 0)
		load_die(path);
	return fd;
}

static void fill(int fd, const char *path, const char *buf, size_t bytes)
{
	errno = ENOSPC;
	if (write(fd, buf, bytes) != (ssize_t)bytes)
		load_die(path);
}

static void empty(int fd, const char *path, char *buf, size_t bytes)
{
	errno = ENODATA;
	for (size_t len = 0; len < bytes;) {
		ssize_t n = read(fd, buf + len, bytes - len);

		if (n <= 0)
			load_die(path);
		len += (size_t)n;
	}
}

/* A close reports what was written late. */
static void close_file(int fd, const char *path)
{
	if (close(fd) < 0)
		load_die(path);
}

static void one_file(const struct job *job, uint64_t n, char *buf)
{
	const size_t bytes = (size_t)job->num[2];
	char path[PATH_SIZE], kind[32];
	struct stat st;
	int fd;

	if (!strcmp(job->word[1], "create")) {
		(void)snprintf(kind, sizeof(kind), "new-%u-", made);
		name_file(path, kind, n);
		fd = open_file(path, O_WRONLY | O_CREAT | O_EXCL);
		fill(fd, path, buf, bytes);
		close_file(fd, path);
		return;
	}
	name_file(path, "", n);
	if (!strcmp(job->word[1], "stat")) {
		if (stat(path, &st) < 0 || (uint64_t)st.st_size != bytes)
			load_die(path);
		return;
	}
	fd = open_file(path, O_RDONLY);
	empty(fd, path, buf, bytes);
	close_file(fd, path);
}

/* One file, in pieces. */
static void stream(const struct job *job, bool put, char *buf)
{
	const size_t bytes = (size_t)job->num[2];
	char path[PATH_SIZE] = DIRECTORY "/stream";
	int fd;

	if (put)
		name_file(path, "put-", made);
	fd = open_file(path, put ? O_WRONLY | O_CREAT | O_EXCL : O_RDONLY);
	for (uint64_t i = 0; i < job->ops; i++)
		if (put)
			fill(fd, path, buf, bytes);
		else
			empty(fd, path, buf, bytes);
	close_file(fd, path);
}

/* The guest has read none of it yet, as far as its own memory goes. */
static void forget(void)
{
	int fd;

	sync();
	fd = open_file("/proc/sys/vm/drop_caches", O_WRONLY);
	fill(fd, "drop_caches", "3", 1);
	close_file(fd, "drop_caches");
}

void files_mount(const char *tag)
{
	static const char options[] = "trans=virtio,version=9p2000.L,cache=mmap,access=user,uname=root,msize=65536";

	if ((mkdir("/proc", 0755) < 0 && errno != EEXIST) || mount("proc", "/proc", "proc", 0, NULL) < 0)
		load_die("mount /proc");
	if ((mkdir(DIRECTORY, 0755) < 0 && errno != EEXIST) || mount(tag, DIRECTORY, "9p", MS_NODEV, options) < 0)
		load_die("mount " DIRECTORY);
}

void files_job(struct job *job)
{
	const bool put = !strcmp(job->word[1], "put"), get = !strcmp(job->word[1], "get");
	char *buf;

	errno = EINVAL;
	if (job->num[2] == 0 || job->num[2] > FILE_BYTES_MAX)
		load_die("size");
	buf = malloc(job->num[2]);
	if (!buf)
		load_die("memory");
	memset(buf, 0x5a, job->num[2]);
	job->ops = job->num[3];
	forget();
	load_begin();
	if (put || get)
		stream(job, put, buf);
	else
		for (uint64_t i = 0; i < job->ops; i++)
			one_file(job, i, buf);
	load_end();
	made++;
	free(buf);
}
