/* Where control groups are mounted; see cgroup_mount.h and proc_pid_mountinfo(5). */
#include "jailer/cgroup_mount.h"

#include <errno.h>
#include <stdio.h>
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
 * Whether a line of mountinfo is the tree, and where. If it is mounted more than once, mounts of all of it (*ret_whole)
 * go before mounts of a part.
 */
static bool parse_mount(char *line, char **ret_point, bool *ret_whole)
{
	enum { ROOT = 3, POINT = 4, BEFORE_DASH = 5 };
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
	*ret_point = field[POINT];
	*ret_whole = !strcmp(field[ROOT], "/");
	return true;
}

int cgroup_find_tree(const char *mountinfo, char **ret, struct err *e)
{
	MF_FREE char *line = NULL, *found = NULL;
	bool whole = false;
	size_t size = 0;
	char *point;
	FILE *f;
	int r = 0;

	f = fopen(mountinfo ? mountinfo : MOUNTINFO, "re");
	if (!f)
		return err_sys(e, "open '%s'", mountinfo ? mountinfo : MOUNTINFO);
	while (!whole && getline(&line, &size, f) >= 0) {
		bool all;

		if (!parse_mount(line, &point, &all) || (found && !all))
			continue;
		free(found);
		found = strdup(point);
		whole = all;
		if (!found) {
			r = err_set(e, -ENOMEM, "no memory for a path");
			break;
		}
	}
	fclose(f);
	if (r < 0)
		return r;
	if (!found)
		return err_set(e, -ENOENT,
			       "cgroup v2 is not mounted: mount it (mount -t cgroup2 cgroup2 /sys/fs/cgroup)");
	*ret = mf_take_ptr(&found);
	return 0;
}
