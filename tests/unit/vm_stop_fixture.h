/*
 * A VM without KVM, for the tests of how it is made to end (vm_stop.c) and of what is reported (vm_report.c): what these
 * two call, on a clock that the tests set.
 */
#ifndef MF_TESTS_UNIT_VM_STOP_FIXTURE_H
#define MF_TESTS_UNIT_VM_STOP_FIXTURE_H

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "loader/init/proto.h"
#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/config/config.h"
#include "vmm/guest/guest_client.h"
#include "vmm/guest/stdio_relay.h"
#include "vmm/jail/parent.h"
#include "vmm/process/crash.h"
#include "vmm/process/ending.h"
#include "vmm/vm/timeline.h"
#include "vmm/vm/vm.h"
#include "vmm/vm/vm_fork.h"
#include "vmm/vm/vm_state.h"

#define START_MS 5000U

/* What vm_stop.c calls. */

static struct {
	uint64_t now_ms;
	bool hears_stop, hears_signals;
	unsigned stops, signals, resizes, asked, cuts, marked;
	int last_signal, asked_status;
	const struct stdio_relay_thread *thread;
	const struct confine *confine;
	bool confine_fails;
} world;

int clock_gettime(clockid_t clock, struct timespec *ts)
{
	if (clock != CLOCK_MONOTONIC) /* cmocka's, which takes any time */
		*ts = (struct timespec){ 0 };
	else
		*ts = (struct timespec){ (time_t)(world.now_ms / 1000), (long)(world.now_ms % 1000) * 1000000 };
	return 0;
}

bool guest_client_stop(struct guest_client *a, int signo, unsigned ms)
{
	(void)a;
	assert_int_equal(signo, SIGUSR1);
	assert_in_range(ms, 1, ENDING_ASKED_MS / 2);
	world.stops++;
	return world.hears_stop;
}

bool guest_client_signal(struct guest_client *a, int signo)
{
	(void)a;
	world.signals++;
	world.last_signal = signo;
	return world.hears_signals;
}

void guest_client_resize(struct guest_client *a)
{
	(void)a;
	world.resizes++;
}

void ending_ask(int status)
{
	world.asked++;
	world.asked_status = status;
}

void ending_cut(void)
{
	world.cuts++;
}

void vm_on_foreground(void *ctx)
{
	(void)ctx;
}

void timeline_mark(struct timeline *t, enum timeline_step step)
{
	(void)t;
	world.marked |= 1U << step;
}

int vm_on_snapshot(void *ctx, const int *files, unsigned num, unsigned flags, struct err *e)
{
	(void)ctx, (void)files, (void)num, (void)flags, (void)e;
	return -1;
}

int vm_on_fork(void *ctx, int *files, unsigned num, unsigned flags, struct guest_fork *ret, struct err *e)
{
	(void)ctx, (void)files, (void)num, (void)flags, (void)ret, (void)e;
	return -1;
}

void vm_on_snapshot_over(void *ctx, bool in_place)
{
	(void)ctx, (void)in_place;
}

void vm_become_template(struct vm *one)
{
	(void)one;
}

void vm_on_snapper_left(void *ctx)
{
	(void)ctx;
}

int vm_info(void *ctx, char *text, size_t size)
{
	(void)ctx;
	(void)text;
	(void)size;
	return -1;
}

int stdio_relay_confine(const struct stdio_relay_thread *thread, const struct confine *confine, struct err *e)
{
	world.thread = thread;
	world.confine = confine;
	return world.confine_fails ? err_set(e, -EPERM, "no filter") : 0;
}

/* The VM. */

static struct vm vm;
static struct config config;
static struct jail_parent parent;
static struct err err;

static int tear_down(void **state)
{
	(void)state;
	close(vm.end.wake_fd);
	return 0;
}

static int set_up(void **state)
{
	(void)state;
	memset(&world, 0, sizeof(world));
	memset(&vm, 0, sizeof(vm));
	memset(&config, 0, sizeof(config));
	parent = (struct jail_parent){ .signal_fd = -1, .tty_fd = -1, .vsock_fd = -1 };
	world.now_ms = START_MS;
	config.stop_signal = SIGUSR1;
	vm.config = &config;
	vm.parent = &parent;
	vm.scan.status = -1;
	assert_int_equal(vm_end_init(&vm.end, NULL, &err), 0);
	return 0;
}

/* With a command, that has started: hears_stop and hears_signals. */
static void with_command(void)
{
	vm.guest = (struct guest_client *)&world;
	world.hears_stop = world.hears_signals = true;
}

static inline bool has_ended(void)
{
	return vm_end_reason(&vm.end) != VM_RUNNING;
}

static void expect_report(int status)
{
	assert_int_equal(vm_report(&vm), status);
}

#define ONE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

#endif
