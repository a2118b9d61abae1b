/* Users and groups, by the root's own /etc/passwd and /etc/group. */
#ifndef MF_INIT_USER_H
#define MF_INIT_USER_H

#include <stdbool.h>
#include <sys/types.h>

#include "loader/init/text.h"

#define USER_GROUPS_MAX 64
#define USER_NAME_MAX 64
#define USER_HOME_MAX 256

struct user {
	uid_t uid;
	gid_t gid;
	int groups; /* other ones */
	gid_t group[USER_GROUPS_MAX];
	char name[USER_NAME_MAX];
	char home[USER_HOME_MAX];
};

/*
 * Finds USER[:GROUP], names or numbers. A number without an entry is accepted, with group
 * 0 and the home /. With GROUP, that is the only group. If a name does not exist, returns
 * false and sets why.
 */
bool user_find(const char *spec, struct user *ret, struct text *why);

#endif
