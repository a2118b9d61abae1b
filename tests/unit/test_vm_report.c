/* The exit status of a VM that has ended. */
#include "tests/unit/vm_stop_fixture.h"

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
		{ VM_END_BOOT, STATUS_FAILED, STATUS_FAILED, STATUS_FAILED },
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		ONE(test_command_that_a_signal_ends),
		ONE(test_statuses),
		ONE(test_reasons),
		ONE(test_what_the_console_said),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
