/* A configuration and an error, fresh for each test of configurations. Include it once, first in the test. */
#ifndef MF_TESTS_UNIT_CONFIG_FIXTURE_H
#define MF_TESTS_UNIT_CONFIG_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vmm/base/err.h"
#include "vmm/config/config.h"

static struct config conf;
static struct err err;

static inline int setup(void **state)
{
	(void)state;
	config_init(&conf);
	err = (struct err){ 0 };
	return 0;
}

static inline int teardown(void **state)
{
	(void)state;
	config_done(&conf);
	return 0;
}

#endif
