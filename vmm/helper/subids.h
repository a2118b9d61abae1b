/* Ids that are subordinate to an ordinary user (subuid(5), subgid(5)). */
#ifndef MF_HELPER_SUBIDS_H
#define MF_HELPER_SUBIDS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

struct err;

struct subids_range {
	uint32_t first, num;
};

/*
 * Finds the first range of a user, by name or number, in /etc/subuid or /etc/subgid. name
 * may be NULL. Returns 0, or -ENOENT: there is none that is well-formed.
 */
int subids_find(FILE *file, const char *name, uid_t uid, struct subids_range *ret);

/*
 * Maps the calling user to root of the new user namespace of process pid, and to the ids
 * from 1 on the user's subordinate ones, by newuidmap(1). Without such ids, or without
 * that program, root alone is mapped. Returns 0, and sets *ret_many to whether there are
 * others; or -errno with e set. One thread only.
 */
int subids_map(pid_t pid, bool *ret_many, struct err *e);

#endif
