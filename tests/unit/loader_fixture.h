/*
 * What the tests of the loader share: guest memory of RAM bytes (2 MiB unless the test defines another number) and a file
 * with a path. Include it once, first in the test.
 */
#ifndef MF_TESTS_UNIT_LOADER_FIXTURE_H
#define MF_TESTS_UNIT_LOADER_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/core/mem.h"

#ifndef RAM
#define RAM (2 * MIB)
#endif

static struct mem ram;
static struct err err;
static char path[64];
static int file = -1;

static inline int setup(void **state)
{
	(void)state;
	err = (struct err){ 0 };
	return mem_init(&ram, RAM, &err);
}

static inline int teardown(void **state)
{
	(void)state;
	mem_done(&ram);
	if (file >= 0)
		close(file);
	file = -1;
	return 0;
}

/* Another file, of these bytes, at path. */
static inline void make_file_of(const void *bytes, size_t len)
{
	if (file >= 0)
		close(file);
	file = memfd_create("file", MFD_CLOEXEC);
	assert_int_equal(write(file, bytes, len), len);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
}

#endif
