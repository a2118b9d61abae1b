/* What can be seen of a VM that runs; see look.h. */
#include "vmm/cmd/look.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/util.h"
#include "vmm/guest/control.h"

#define CONFIG_BYTES_MAX (8U << 20)

/* The configuration, which the monitor has sealed. */
static json_t *read_config(int fd)
{
	off_t size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
	MF_FREE char *text = size > 0 && size <= CONFIG_BYTES_MAX ? malloc((size_t)size) : NULL;

	/* What is no regular file has no size; a memfd that shrinks gives less, which is no JSON. */
	if (!text || fcntl(fd, F_GET_SEALS) < 0 || fdio_pread_all(fd, text, (size_t)size, 0) < 0)
		return NULL;
	return json_loadb(text, (size_t)size, 0, NULL);
}

int look_at(struct look *ret, const char *target, struct err *e)
{
	MF_FREE char *text = malloc(CONTROL_INFO_MAX);
	MF_CLOSE int fd = -1;
	MF_CLOSE int config = -1;

	*ret = (struct look){ 0 };
	if (!text)
		return err_set(e, -ENOMEM, "out of memory");
	fd = control_connect(target, 0, e);
	if (fd < 0 || control_info(fd, text, &config, &ret->pid, e) < 0)
		return e->code;
	ret->info = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	ret->config = read_config(config);
	return json_is_object(ret->info) ? 0 : err_set(e, -EPROTO, "what answers is not mayfly");
}

void look_done(struct look *l)
{
	json_decref(l->info);
	json_decref(l->config);
	*l = (struct look){ 0 };
}

/* Reads a file of /proc. Returns its length, 0 if it cannot be read. */
static size_t read_proc(char *text, size_t size, const char *path)
{
	MF_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : fdio_read(fd, text, size - 1);

	text[n > 0 ? n : 0] = '\0';
	return n > 0 ? (size_t)n : 0;
}

/* Adds the CPU time of a thread. Its name may have any characters: the fields begin behind the last parenthesis. */
static void add_thread(const char *stat, struct look_usage *u)
{
	const char *name = strchr(stat, '('), *fields = strrchr(stat, ')');
	unsigned long user, system;
	long hz = sysconf(_SC_CLK_TCK);
	uint64_t ms;

	if (!name || !fields || hz <= 0 ||
	    sscanf(fields + 1, " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %lu %lu", &user, &system) != 2)
		return;
	ms = (uint64_t)(user + system) * 1000 / (uint64_t)hz;
	if (strncmp(name + 1, "vcpu", 4) == 0)
		u->vcpu_ms += ms;
	else
		u->other_ms += ms;
}

static uint64_t memory_of(pid_t pid)
{
	char path[64], text[4096];
	unsigned long n;
	char *line;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
	if (read_proc(text, sizeof(text), path) && (line = strstr(text, "\nPss:")) && sscanf(line + 5, "%lu", &n) == 1)
		return (uint64_t)n * KIB;
	snprintf(path, sizeof(path), "/proc/%d/statm", pid); /* of another user's, as in a jail */
	if (read_proc(text, sizeof(text), path) && sscanf(text, "%*s %lu", &n) == 1)
		return (uint64_t)n * MF_PAGE_SIZE;
	return 0;
}

int look_usage(pid_t pid, struct look_usage *ret)
{
	char path[64 + sizeof(((struct dirent *)0)->d_name)], text[1024];
	struct look_usage u = { .memory = memory_of(pid) };
	const struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	if (!dir)
		return -ESRCH;
	while ((entry = readdir(dir))) {
		snprintf(path, sizeof(path), "/proc/%d/task/%s/stat", pid, entry->d_name);
		if (entry->d_name[0] != '.' && read_proc(text, sizeof(text), path))
			add_thread(text, &u);
	}
	closedir(dir);
	*ret = u;
	return 0;
}
