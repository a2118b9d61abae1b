/* How a VM is made to end: what signals and the time limits come to. */
#include "tests/unit/vm_stop_fixture.h"

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

/* Of a command only, until it has started. */
static void test_boot_that_hangs(void **state)
{
	enum { BEFORE, STARTED, NO_COMMAND, NO_LIMIT, NUM };

	for (int what = BEFORE; what < NUM; what++) {
		tear_down(state);
		set_up(state);
		if (what != NO_COMMAND)
			with_command();
		config.boot_timeout_ms = what == NO_LIMIT ? CONFIG_NO_LIMIT : 2000;
		parent.limit_ms = what == BEFORE ? START_MS + 3000 : 0;
		vm_stop_begin(&vm);
		vm_guest_ops.mark(&vm, INIT_MARK_INIT); /* does not count */
		if (what == STARTED)
			vm_guest_ops.started(&vm);
		assert_int_equal(vm_stop_timeout(&vm, 100000), what == BEFORE ? 2000 : 100000);
		world.now_ms += 1999;
		vm_stop_check(&vm);
		assert_false(has_ended());
		world.now_ms++;
		vm_stop_check(&vm);
		assert_int_equal(has_ended(), what == BEFORE);
		if (what != BEFORE)
			assert_int_equal(vm_stop_timeout(&vm, 100000), 100000);
	}
	tear_down(state);
	set_up(state);
	with_command();
	config.boot_timeout_ms = 2000;
	vm_stop_begin(&vm);
	world.now_ms += 2000;
	vm_stop_check(&vm);
	assert_int_equal(vm_end_reason(&vm.end), VM_END_BOOT);
	assert_int_equal(world.stops, 0); /* nobody is there to ask */
	expect_report(STATUS_FAILED);
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
	const struct stdio_relay_thread thread = { .streams = 2 };

	(void)state;
	assert_int_equal(vm_guest_ops.guard(&vm, &thread, &err), 0);
	assert_ptr_equal(world.thread, &thread);
	assert_ptr_equal(world.confine, &vm.confine);
	world.confine_fails = true;
	assert_int_equal(vm_guest_ops.guard(&vm, &thread, &err), -EPERM);
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
	const struct CMUnitTest tests[] = {
		ONE(test_signal_without_command),
		ONE(test_command_is_asked_first),
		ONE(test_second_request),
		ONE(test_guest_that_cannot_be_asked),
		ONE(test_time_limit),
		ONE(test_time_limit_of_a_command),
		ONE(test_boot_that_hangs),
		ONE(test_no_limit),
		ONE(test_interrupts),
		ONE(test_interrupt_that_no_command_hears),
		ONE(test_signals_of_the_command),
		ONE(test_init_reports),
		ONE(test_threads_of_streams),
		ONE(test_guest_that_ends_while_it_stops),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
