/* Subordinate ids; see subids.h. */
#include "vmm/helper/subids.h"

#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "jailer/namespaces.h"
#include "vmm/base/err.h"
#include "vmm/base/parse.h"
#include "vmm/base/util.h"
#include "vmm/helper/spawn.h"

#define NUMBER_MAX 16 /* bytes of an id as text, with its NUL */

/* USER:FIRST:NUM */
static bool read_line(char *line, const char *name, uid_t uid, struct subids_range *ret)
{
	const char *user = strsep(&line, ":"), *first = strsep(&line, ":"), *num = line;
	uint64_t id, from, count;

	if (!first || !num || parse_u64(first, &from) < 0 || parse_u64(num, &count) < 0 || count == 0 ||
	    from > UINT32_MAX || count > UINT32_MAX - from)
		return false;
	if ((!name || strcmp(user, name) != 0) && (parse_u64(user, &id) < 0 || id != uid))
		return false;
	*ret = (struct subids_range){ .first = (uint32_t)from, .num = (uint32_t)count };
	return true;
}

int subids_find(FILE *file, const char *name, uid_t uid, struct subids_range *ret)
{
	MF_FREE char *line = NULL;
	size_t size = 0;
	ssize_t len;

	while ((len = getline(&line, &size, file)) > 0) {
		line[strcspn(line, "\n")] = '\0';
		if (read_line(line, name, uid, ret))
			return 0;
	}
	return -ENOENT;
}

/* Not getpwuid(3), for which a static binary would load libraries. Returns a new string, or NULL. */
static char *name_of(uid_t uid)
{
	FILE *file = fopen("/etc/passwd", "re");
	struct passwd *entry = NULL;
	char *name;

	while (file && (entry = fgetpwent(file)) && entry->pw_uid != uid)
		;
	name = entry ? strdup(entry->pw_name) : NULL;
	if (file)
		(void)fclose(file); /* it was read */
	return name;
}

static int find_in(const char *path, const char *name, struct subids_range *ret)
{
	FILE *file = fopen(path, "re");
	int r = file ? subids_find(file, name, getuid(), ret) : -ENOENT;

	if (file)
		(void)fclose(file); /* it was read */
	return r;
}

/* The program is newuidmap or newgidmap. */
static int map(const char *program, pid_t pid, unsigned own, const struct subids_range *range, struct err *e)
{
	static const int none[SPAWN_FDS] = { -1, -1, -1, -1 };
	char target[NUMBER_MAX], outside[NUMBER_MAX], first[NUMBER_MAX], num[NUMBER_MAX];
	const char *argv[] = { program, target, "0", outside, "1", "1", first, num, NULL };
	pid_t child;

	snprintf(target, sizeof(target), "%d", (int)pid);
	snprintf(outside, sizeof(outside), "%u", own);
	snprintf(first, sizeof(first), "%u", range->first);
	snprintf(num, sizeof(num), "%u", range->num);
	child = spawn_start(argv, none, SIGKILL, "uidmap", e);
	if (child < 0)
		return child;
	return spawn_wait(child, program, e) < 0 ? err_wrap(e, "map this user's subordinate ids (subuid(5))") : 0;
}

int subids_map(pid_t pid, bool *ret_many, struct err *e)
{
	struct subids_range uids, gids;
	MF_FREE char *name = name_of(getuid());
	int r;

	*ret_many = false;
	if (find_in("/etc/subuid", name, &uids) < 0 || find_in("/etc/subgid", name, &gids) < 0)
		return namespaces_map_root(pid, getuid(), getgid(), e);
	r = map("newgidmap", pid, getgid(), &gids, e);
	if (r == -ENOENT)
		return namespaces_map_root(pid, getuid(), getgid(), e);
	if (r < 0 || map("newuidmap", pid, getuid(), &uids, e) < 0)
		return e->code;
	*ret_many = true;
	return 0;
}
