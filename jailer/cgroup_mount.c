/* Where control groups are mounted; see cgroup_mount.h and proc_pid_mountinfo(5). */
#include "jailer/cgroup_mount.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"

#define MOUNTINFO "/proc/self/mountinfo"

bool cgroup_list_has(const char *list, const char *word)
{
	static const char between[] = " ,\n";
	size_t len = strlen(word);

	for (list += strspn(list, between); *list; list += strspn(list, between)) {
		size_t n = strcspn(list, between);

		if (n == len && !strncmp(list, word, n))
			return true;
		list += n;
	}
	return false;
}

/* In place: mountinfo has "\040" for a space, and so on. */
static void unescape(char *text)
{
	char *to = text;

	for (const char *from = text; *from; to++) {
		if (*from == '\\' && strspn(from + 1, "01234567") >= 3) {
			*to = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + from[3] - '0');
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = '\0';
}

/*
 * Whether a line of mountinfo is the tree: where, and which part of it, by the root of the
 * caller's cgroup namespace.
 */
static bool parse_mount(char *line, char **ret_point, char **ret_part)
{
	enum { PART = 3, POINT = 4, BEFORE_DASH = 5 };
	char *field[BEFORE_DASH], *save = NULL, *word, *type;
	int num = 0;

	for (word = strtok_r(line, " \n", &save); word && strcmp(word, "-") != 0; word = strtok_r(NULL, " \n", &save)) {
		if (num < BEFORE_DASH)
			field[num++] = word;
	}
	type = strtok_r(NULL, " \n", &save);
	if (!word || !type || num < BEFORE_DASH || strcmp(type, "cgroup2") != 0)
		return false;
	unescape(field[POINT]);
	unescape(field[PART]);
	*ret_point = field[POINT];
	*ret_part = field[PART];
	return true;
}

/* The rest of a group's path below part, with its '/'; "" if they are the same; NULL if it is not below. */
static const char *below(const char *group, const char *part)
{
	size_t len = strlen(part);

	if (!strcmp(part, "/"))
		return !strncmp(group, "/..", 3) ? NULL : group[1] ? group : "";
	return !strncmp(group, part, len) && (group[len] == '/' || !group[len]) ? group + len : NULL;
}

/*
 * If the tree is mounted more than once, a mount of all of it goes first, then one of a part that
 * has the group, which may be NULL; of equals the first. But a later mount hides an earlier one at
 * the same place. *ret_own is the group's directory there, or NULL.
 */
static int find_mount(const char *mountinfo, const char *group, char **ret, char **ret_own, struct err *e)
{
	MF_FREE char *line = NULL, *found = NULL, *own = NULL;
	bool failed = false;
	char *point, *part;
	size_t size = 0;
	int best = 0;
	FILE *f;

	f = fopen(mountinfo, "re");
	if (!f)
		return err_sys(e, "open '%s'", mountinfo);
	while (!failed && getline(&line, &size, f) >= 0) {
		const char *rest;
		int rank;

		if (!parse_mount(line, &point, &part))
			continue;
		rest = group ? below(group, part) : NULL;
		rank = !strcmp(part, "/") ? 3 : rest ? 2 : 1;
		if (rank <= best && strcmp(point, found) != 0)
			continue;
		best = rank;
		free(found);
		free(own);
		found = strdup(point);
		if (!rest || asprintf(&own, "%s%s", point, rest) < 0)
			own = NULL;
		failed = !found || (rest && !own);
	}
	fclose(f);
	if (failed)
		return err_set(e, -ENOMEM, "no memory for a path");
	if (!found)
		return err_set(e, -ENOENT,
			       "cgroup v2 is not mounted: mount it (mount -t cgroup2 cgroup2 /sys/fs/cgroup)");
	*ret = mf_take_ptr(&found);
	*ret_own = mf_take_ptr(&own);
	return 0;
}

int cgroup_find_tree(const char *mountinfo, char **ret, struct err *e)
{
	char *own;

	return find_mount(mountinfo ? mountinfo : MOUNTINFO, NULL, ret, &own, e);
}

/* The group in version 2 of the process whose /proc/PID/cgroup that is. */
static int read_group(const char *path, char **ret, struct err *e)
{
	MF_FREE char *line = NULL;
	size_t size = 0;
	bool found = false;
	FILE *f;

	f = fopen(path, "re");
	if (!f)
		return err_sys(e, "open '%s'", path);
	while (!found && getline(&line, &size, f) >= 0)
		found = !strncmp(line, "0::/", 4); /* version 1 has a name between the colons */
	fclose(f);
	if (!found)
		return err_set(
			e, -ENOENT,
			"this host has no cgroup v2: boot it with systemd.unified_cgroup_hierarchy=1, if it has systemd");
	line[strcspn(line, "\n")] = '\0';
	*ret = strdup(line + 3);
	return *ret ? 0 : err_set(e, -ENOMEM, "no memory for a path");
}

int cgroup_find_own(const char *proc, char **ret_own, char **ret_tree, struct err *e)
{
	char cgroup[PATH_MAX], mountinfo[PATH_MAX];
	MF_FREE char *group = NULL;

	snprintf(cgroup, sizeof(cgroup), "%s/cgroup", proc); /* a path that was cut does not exist */
	snprintf(mountinfo, sizeof(mountinfo), "%s/mountinfo", proc);
	if (read_group(cgroup, &group, e) < 0)
		return e->code;
	return find_mount(mountinfo, group, ret_tree, ret_own, e);
}
