/* How a VM is made to end: what signals and the time limit come to, on a clock that the tests set, and the exit status. */
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

#define START_MS 5000U

/* What vm_stop.c calls. */

static struct {
	uint64_t now_ms;
	bool hears_stop, hears_signals;
	unsigned stops, signals, resizes, asked, cuts, marked;
	int last_signal, asked_status;
	const struct stdio_relay_pump *pump;
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

bool guest_client_stop(struct guest_client *a, unsigned ms)
{
	(void)a;
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

int stdio_relay_confine(const struct stdio_relay_pump *pump, const struct confine *confine, struct err *e)
{
	world.pump = pump;
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

static bool has_ended(void)
{
	return vm_end_reason(&vm.end) != VM_RUNNING;
}

static void expect_report(int status)
{
	assert_int_equal(vm_report(&vm), status);
}

static void test_signal_without_command(void **state)
{
	static const int signals[] = { SIGTERM, SIGHUP, SIGQUIT, SIGINT };

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		tear_down(state);
		set_up(state);
		vm_stop_signal(&vm, signals[i]);
		assert_int_equal(vm_end_reason(&vm.end), VM_END_SIGNAL);
		assert_int_equal(world.asked_status, -signals[i]);
		assert_int_equal(world.cuts, 0);
		expect_report(-signals[i]);
	}
}

static void test_command_is_asked_first(void **state)
{
	(void)state;
	with_command();
	vm_stop_signal(&vm, SIGTERM);
	assert_int_equal(world.stops, 1);
	assert_int_equal(world.asked, 1);
	assert_false(has_ended());
	/* Shortly before the hard end, and at it. */
	assert_in_range(vm_stop_timeout(&vm, 100000), 1, ENDING_ASKED_MS - 1);
	world.now_ms += (uint64_t)vm_stop_timeout(&vm, 100000) - 1;
	vm_stop_check(&vm);
	assert_false(has_ended());
	assert_int_equal(vm_stop_timeout(&vm, 100000), 1);
	world.now_ms++;
	assert_int_equal(vm_stop_timeout(&vm, 100000), 0);
	vm_stop_check(&vm);
	assert_true(has_ended());
	expect_report(-SIGTERM);
}

static void test_second_request(void **state)
{
	static const int signals[] = { SIGTERM, SIGHUP, SIGQUIT, SIGINT };

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		tear_down(state);
		set_up(state);
		with_command();
		vm_stop_signal(&vm, SIGTERM);
		assert_false(has_ended());
		vm_stop_signal(&vm, signals[i]);
		assert_true(has_ended());
		assert_int_equal(world.cuts, 1);
		assert_int_equal(world.stops, 1);
		assert_int_equal(world.signals, 0);
		expect_report(-SIGTERM); /* the first one's */
	}
}

static void test_guest_that_cannot_be_asked(void **state)
{
	(void)state;
	with_command();
	world.hears_stop = false;
	vm_stop_signal(&vm, SIGTERM);
	assert_true(has_ended());
	expect_report(-SIGTERM);
}

static void test_time_limit(void **state)
{
	(void)state;
	config.timeout_ms = 3000;
	parent.limit_ms = START_MS + 3000;
	assert_int_equal(vm_stop_timeout(&vm, 100), 100);
	assert_int_equal(vm_stop_timeout(&vm, 100000), 3000);
	world.now_ms += 2999;
	vm_stop_check(&vm);
	assert_false(has_ended());
	world.now_ms++;
	vm_stop_check(&vm);
	assert_int_equal(vm_end_reason(&vm.end), VM_END_TIMEOUT);
	assert_string_equal(vm.end.text, "3.000 s");
	assert_int_equal(world.asked_status, STATUS_TIMEOUT);
	expect_report(STATUS_TIMEOUT);
}

static void test_time_limit_of_a_command(void **state)
{
	(void)state;
	with_command();
	parent.limit_ms = START_MS;
	for (int i = 0; i < 3; i++) {
		vm_stop_check(&vm);
		world.now_ms++;
	}
	assert_int_equal(world.stops, 1); /* is asked once */
	assert_false(has_ended());
	/* It ends as asked, whatever its own status. */
	vm_guest_ops.exited(&vm, 0, 0, "");
	expect_report(STATUS_TIMEOUT);
}

static void test_no_limit(void **state)
{
	(void)state;
	assert_int_equal(vm_stop_timeout(&vm, -1), -1);
	world.now_ms = UINT64_MAX / 2;
	vm_stop_check(&vm);
	assert_false(has_ended());
}

static void test_interrupts(void **state)
{
	(void)state;
	with_command();
	vm_stop_signal(&vm, SIGINT);
	assert_int_equal(world.last_signal, SIGINT);
	world.now_ms += ENDING_INT_MS; /* too late to be a second one */
	vm_stop_signal(&vm, SIGINT);
	assert_int_equal(world.signals, 2);
	assert_false(has_ended());
	world.now_ms += ENDING_INT_MS - 1;
	vm_stop_signal(&vm, SIGINT);
	assert_int_equal(world.signals, 2);
	assert_int_equal(world.stops, 0); /* at once */
	assert_true(has_ended());
	expect_report(-SIGINT);
}

/* A SIGINT or SIGQUIT that came to mayfly, and ended the command, has ended mayfly, too; no other status means that. */
static void test_command_that_a_signal_ends(void **state)
{
	static const struct {
		int signo;
		unsigned status;
		int report;
	} cases[] = {
		{ 0, 130, 130 },  { SIGINT, 130, -SIGINT },   { SIGINT, 131, 131 },
		{ SIGINT, 0, 0 }, { SIGQUIT, 131, -SIGQUIT }, { SIGUSR1, 138, 138 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		tear_down(state);
		set_up(state);
		with_command();
		if (cases[i].signo)
			vm_stop_signal(&vm, cases[i].signo);
		vm_guest_ops.exited(&vm, cases[i].status, 0, "");
		expect_report(cases[i].report);
	}
}

static void test_interrupt_that_no_command_hears(void **state)
{
	(void)state;
	with_command();
	world.hears_signals = false;
	vm_stop_signal(&vm, SIGINT);
	assert_true(has_ended());
	expect_report(-SIGINT);
}

static void test_signals_of_the_command(void **state)
{
	static const int signals[] = { SIGUSR1, SIGUSR2, SIGQUIT };

	(void)state;
	with_command();
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		vm_stop_signal(&vm, signals[i]);
		assert_int_equal(world.last_signal, signals[i]);
	}
	vm_stop_signal(&vm, SIGWINCH);
	assert_int_equal(world.resizes, 1);
	assert_false(has_ended());
	world.hears_signals = false;
	vm_stop_signal(&vm, SIGUSR1);
	assert_false(has_ended());
	vm_stop_signal(&vm, SIGQUIT);
	assert_int_equal(world.stops, 1);
}

static void test_statuses(void **state)
{
	(void)state;
	with_command();
	vm_guest_ops.exited(&vm, 7, INIT_OOM, "");
	assert_int_equal(vm_end_reason(&vm.end), VM_END_COMMAND);
	assert_true(vm.outcome.oom);
	expect_report(7);
	/* What did not arrive is a failure, unless there is another. */
	vm.outcome.lost = true;
	expect_report(7);
	vm.outcome.status = 0;
	expect_report(STATUS_FAILED);
	vm.outcome.lost = false;
	/* It was left by keys, or has ended before its command. */
	vm.end.reason = VM_END_QUIT;
	expect_report(STATUS_FAILED);
	vm.end.reason = VM_END_HALT;
	expect_report(STATUS_GUEST_HALT);
	vm.scan.halted = true;
	expect_report(STATUS_FAILED);
	vm.guest = NULL;
	expect_report(STATUS_OK);
	vm.end.reason = VM_END_QUIT;
	expect_report(STATUS_OK);
}

/* Each way to end, and what the console and the command say of it. */
static void test_reasons(void **state)
{
	static const struct {
		enum vm_end_reason reason;
		int alone, with_command, status;
	} cases[] = {
		{ VM_END_RESET, STATUS_OK, STATUS_FAILED, 7 },
		{ VM_END_POWEROFF, STATUS_OK, STATUS_FAILED, 7 },
		{ VM_END_TRIPLE_FAULT, STATUS_GUEST_CRASH, STATUS_GUEST_CRASH, STATUS_GUEST_CRASH },
		{ VM_END_HALT, STATUS_GUEST_HALT, STATUS_GUEST_HALT, STATUS_GUEST_HALT },
		{ VM_END_KVM, STATUS_KVM_EXIT, STATUS_KVM_EXIT, STATUS_KVM_EXIT },
		{ VM_END_INIT, STATUS_FAILED, STATUS_FAILED, STATUS_FAILED },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		tear_down(state);
		set_up(state);
		vm_end(&vm.end, cases[i].reason, "a reason");
		expect_report(cases[i].alone);
		with_command();
		expect_report(cases[i].with_command);
		vm.scan.status = 7; /* init told it by the console */
		expect_report(cases[i].status);
	}
}

/* A panic is one however the guest ends after it; a restart that the console announced is no crash. */
static void test_what_the_console_said(void **state)
{
	static const enum vm_end_reason reasons[] = { VM_END_RESET, VM_END_TRIPLE_FAULT, VM_END_HALT, VM_END_POWEROFF };

	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
		tear_down(state);
		set_up(state);
		vm_end(&vm.end, reasons[i], "a reason");
		strcpy(vm.scan.panic, "Fatal exception");
		expect_report(STATUS_GUEST_PANIC);
		with_command();
		expect_report(STATUS_GUEST_PANIC);
	}
	tear_down(state);
	set_up(state);
	vm_end(&vm.end, VM_END_TRIPLE_FAULT, "a reason");
	vm.scan.restarting = true;
	expect_report(STATUS_OK);
	with_command();
	expect_report(STATUS_FAILED);
}

static void test_init_reports(void **state)
{
	static const enum timeline_step steps[] = { TIMELINE_INIT, TIMELINE_ROOT, TIMELINE_NET };

	with_command();
	for (unsigned i = 0; i < 3; i++) {
		world.marked = 0;
		vm_guest_ops.mark(&vm, (enum init_mark)i);
		assert_int_equal(world.marked, 1U << steps[i]);
	}
	world.marked = 0;
	vm_guest_ops.started(&vm);
	vm_guest_ops.output(&vm);
	assert_int_equal(world.marked, 1U << TIMELINE_STARTED | 1U << TIMELINE_BYTE);
	assert_false(has_ended());
	vm_guest_ops.exited(&vm, 0, INIT_LOST, "not sent");
	assert_true(world.marked & 1U << TIMELINE_EXIT);
	assert_string_equal(vm.end.text, "not sent");
	assert_true(vm.outcome.lost && !vm.outcome.oom);
	expect_report(STATUS_FAILED);
	tear_down(state);
	set_up(state);
	with_command();
	vm_guest_ops.failed(&vm, "no such user");
	assert_int_equal(vm_end_reason(&vm.end), VM_END_INIT);
	assert_string_equal(vm.end.text, "no such user");
	tear_down(state);
	set_up(state);
	with_command();
	vm_guest_ops.left(&vm);
	assert_int_equal(vm_end_reason(&vm.end), VM_END_QUIT);
	expect_report(STATUS_FAILED);
}

/* A thread of a stream has the filter of its kind, or does not serve it. */
static void test_threads_of_streams(void **state)
{
	const struct stdio_relay_pump pump = { .from = 7 };

	(void)state;
	assert_int_equal(vm_guest_ops.guard(&vm, &pump, &err), 0);
	assert_ptr_equal(world.pump, &pump);
	assert_ptr_equal(world.confine, &vm.confine);
	world.confine_fails = true;
	assert_int_equal(vm_guest_ops.guard(&vm, &pump, &err), -EPERM);
}

/* The guest ends by itself while it is asked to: that is then the reason. */
static void test_guest_that_ends_while_it_stops(void **state)
{
	(void)state;
	with_command();
	vm_stop_signal(&vm, SIGTERM);
	vm_end(&vm.end, VM_END_TRIPLE_FAULT, "a reason");
	world.now_ms += ENDING_ASKED_MS;
	vm_stop_check(&vm);
	assert_int_equal(vm_end_reason(&vm.end), VM_END_TRIPLE_FAULT);
	expect_report(STATUS_GUEST_CRASH);
}

int main(void)
{
#define ONE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		ONE(test_signal_without_command),
		ONE(test_command_is_asked_first),
		ONE(test_second_request),
		ONE(test_guest_that_cannot_be_asked),
		ONE(test_time_limit),
		ONE(test_time_limit_of_a_command),
		ONE(test_no_limit),
		ONE(test_interrupts),
		ONE(test_command_that_a_signal_ends),
		ONE(test_interrupt_that_no_command_hears),
		ONE(test_signals_of_the_command),
		ONE(test_statuses),
		ONE(test_reasons),
		ONE(test_what_the_console_said),
		ONE(test_init_reports),
		ONE(test_threads_of_streams),
		ONE(test_guest_that_ends_while_it_stops),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
