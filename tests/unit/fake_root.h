/* For tests of what is read from a host: one that does not exist, a tree of files below `root`. */
#ifndef MF_UNIT_FAKE_ROOT_H
#define MF_UNIT_FAKE_ROOT_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[] = "/tmp/mayfly-test-root-XXXXXX";

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static inline void remove_tree(void)
{
	nftw(root, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
	mkdir(root, 0700);
}

/* Makes a file of the host, and the directories above it. */
static inline void put(const char *path, const char *text)
{
	char whole[512];
	FILE *file;

	snprintf(whole, sizeof(whole), "%s%s", root, path);
	for (char *slash = whole + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		mkdir(whole, 0700);
		*slash = '/';
	}
	file = fopen(whole, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

/* The group's setup and teardown. */
static inline int make_root(void **state)
{
	(void)state;
	return mkdtemp(root) ? 0 : -1;
}

static inline int drop_root(void **state)
{
	(void)state;
	remove_tree();
	return rmdir(root);
}

#endif
