/*
 * Users and groups, by the root's own /etc/passwd and /etc/group: lines of fields
 * separated by colons.
 *
 * The files are mapped, not copied. This runs in the process of the command, so if the
 * root's files shrink meanwhile, only that process is harmed.
 */
#include "loader/init/user.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIELDS_MAX 7

enum { PASSWD_NAME = 0, PASSWD_UID = 2, PASSWD_GID = 3, PASSWD_HOME = 5 };
enum { GROUP_NAME = 0, GROUP_GID = 2, GROUP_MEMBERS = 3 };

struct field {
	const char *s;
	size_t len;
};

struct table {
	const char *at, *end;
};

static struct table user_table(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct table table = { 0 };
	struct stat stat;

	if (fd >= 0 && fstat(fd, &stat) == 0 && stat.st_size > 0) {
		void *map = mmap(NULL, (size_t)stat.st_size, PROT_READ, MAP_PRIVATE, fd, 0);

		if (map != MAP_FAILED)
			table = (struct table){ map, (const char *)map + stat.st_size };
	}
	if (fd >= 0)
		close(fd);
	return table;
}

/* The fields of the next line; those that it has not are empty. */
static bool user_line(struct table *table, struct field *fields)
{
	const char *at = table->at, *end;

	if (at == table->end)
		return false;
	end = memchr(at, '\n', (size_t)(table->end - at));
	if (end == NULL)
		end = table->end;
	table->at = end == table->end ? end : end + 1;
	for (unsigned i = 0; i < FIELDS_MAX; i++) {
		const char *colon = memchr(at, ':', (size_t)(end - at));

		if (colon == NULL)
			colon = end;
		fields[i] = (struct field){ at, (size_t)(colon - at) };
		at = colon == end ? end : colon + 1;
	}
	return true;
}

static bool field_is(const struct field *field, const char *s)
{
	return strlen(s) == field->len && memcmp(s, field->s, field->len) == 0;
}

static bool field_copy(const struct field *field, char *ret, size_t size)
{
	if (field->len >= size)
		return false;
	memcpy(ret, field->s, field->len);
	ret[field->len] = '\0';
	return true;
}

static bool field_number(const struct field *field, unsigned *ret)
{
	char digits[16];
	unsigned long number;

	if (!field_copy(field, digits, sizeof(digits)) || !text_number(digits, UINT_MAX - 1, &number))
		return false;
	*ret = (unsigned)number;
	return true;
}

/* By name, or by number, if it is one and no name. */
static bool user_find_passwd(const char *name, struct user *ret)
{
	struct table table = user_table("/etc/passwd");
	struct field fields[FIELDS_MAX];
	unsigned long wanted;
	bool is_number = text_number(name, UINT_MAX - 1, &wanted), found = false;
	struct user user = *ret;

	while (user_line(&table, fields)) {
		bool same = field_is(&fields[PASSWD_NAME], name);

		if (!field_number(&fields[PASSWD_UID], &user.uid) || !field_number(&fields[PASSWD_GID], &user.gid))
			continue;
		if (!same && (found || !is_number || user.uid != wanted))
			continue;
		if (!field_copy(&fields[PASSWD_NAME], user.name, sizeof(user.name)) ||
		    !field_copy(&fields[PASSWD_HOME], user.home, sizeof(user.home)))
			continue;
		*ret = user;
		found = true;
		if (same)
			break;
	}
	if (!found && is_number) {
		*ret = (struct user){ .uid = (uid_t)wanted, .name = "", .home = "/" };
		found = true;
	}
	return found;
}

static bool user_find_group(const char *name, gid_t *ret)
{
	struct table table = user_table("/etc/group");
	struct field fields[FIELDS_MAX];
	unsigned long wanted;

	while (user_line(&table, fields)) {
		if (field_is(&fields[GROUP_NAME], name) && field_number(&fields[GROUP_GID], ret))
			return true;
	}
	if (!text_number(name, UINT_MAX - 1, &wanted))
		return false;
	*ret = (gid_t)wanted;
	return true;
}

static bool group_has(const struct field *members, const char *name)
{
	const char *at = members->s, *end = members->s + members->len;

	while (at < end) {
		const char *comma = memchr(at, ',', (size_t)(end - at));
		const struct field member = { at, (size_t)((comma == NULL ? end : comma) - at) };

		if (field_is(&member, name))
			return true;
		at += member.len + 1;
	}
	return false;
}

static void user_find_groups(struct user *user)
{
	struct table table = user_table("/etc/group");
	struct field fields[FIELDS_MAX];

	while (user->name[0] != '\0' && user->groups < USER_GROUPS_MAX && user_line(&table, fields)) {
		if (group_has(&fields[GROUP_MEMBERS], user->name) &&
		    field_number(&fields[GROUP_GID], &user->group[user->groups]))
			user->groups++;
	}
}

bool user_find(const char *spec, struct user *ret, struct text *why)
{
	const char *colon = strchr(spec, ':');
	const struct field first = { spec, colon == NULL ? strlen(spec) : (size_t)(colon - spec) };
	char name[USER_NAME_MAX];
	struct user user = { .name = "" };

	if (!field_copy(&first, name, sizeof(name)) || !user_find_passwd(name, &user)) {
		text_add(why, "user '", spec, "': no such user in the root's /etc/passwd", NULL);
		return false;
	}
	if (colon == NULL) {
		user_find_groups(&user);
	} else if (!user_find_group(colon + 1, &user.gid)) {
		text_add(why, "user '", spec, "': no such group in the root's /etc/group", NULL);
		return false;
	}
	*ret = user;
	return true;
}
