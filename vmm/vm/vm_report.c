/* What mayfly says of the end of a VM, its exit status, and what its record gets. */
#include "vmm/vm/vm.h"

#include <signal.h>
#include <stdio.h>

#include "vmm/base/exit_status.h"
#include "vmm/base/report.h"
#include "vmm/base/result.h"
#include "vmm/jail/parent.h"
#include "vmm/jail/privsep.h"
#include "vmm/process/notify.h"
#include "vmm/records/record.h"
#include "vmm/snapshot/chain.h"

static int vm_report_say(const struct vm *vm, enum end_cause cause, int status, const char *what)
{
	result_set(cause, -1, cause == END_SIGNAL ? vm->stop.signal : 0);
	if (status != STATUS_OK || vm->config->log_level >= LOG_LEVEL_WARN)
		report_line("%s (%s)", what, vm->end.text);
	return status;
}

/* passed: the signal that mayfly passed on, and that ended the command. */
static void vm_note_command(const struct vm *vm, int passed)
{
	result_set_command((int)vm->outcome.status, vm->outcome.signalled, vm->outcome.oom, passed);
}

static int vm_report_command(const struct vm *vm)
{
	/* A SIGINT that came to mayfly, and ended the command, has ended both: a shell's loop ends by it. */
	const int passed = vm->outcome.status == (unsigned)(STATUS_SIGNAL_BASE + vm->stop.passed) ? vm->stop.passed : 0;

	vm_note_command(vm, passed);
	if (vm->end.text[0])
		report_line("%s", vm->end.text);
	if (vm->outcome.oom)
		report_line("the guest's memory was used up: its kernel has killed a process (-m SIZE gives it more)");
	return passed ? -passed : (int)vm->outcome.status;
}

/* The last lines of the guest, if they were not shown: those of a command's VM are not. */
static void vm_report_last_lines(const struct vm *vm)
{
	const char *line;

	if (!vm->guest || vm->config->console || vm->console_shown)
		return;
	for (unsigned n = 0; (line = console_scan_last(&vm->scan, n)) != NULL; n++)
		fprintf(stderr, "guest: %s\n", line);
}

/* The guest has ended by itself, or by a reset. What the console said of it tells a panic and a halt from a crash. */
static int vm_report_guest(const struct vm *vm)
{
	const struct console_scan *g = &vm->scan;
	const enum vm_end_reason reason = vm_end_reason(&vm->end);
	bool reset = reason == VM_END_RESET || (reason == VM_END_TRIPLE_FAULT && g->restarting);

	if (g->panic[0]) {
		vm_report_last_lines(vm);
		report_line("the guest kernel panicked: %s (%s)", g->panic, vm->end.text);
		result_set(END_PANIC, -1, 0);
		return STATUS_GUEST_PANIC;
	}
	if (vm->guest && (reset || g->halted || reason == VM_END_POWEROFF)) {
		if (g->status >= 0) {
			result_set(END_COMMAND, g->status, 0);
			return g->status;
		}
		vm_report_last_lines(vm);
		return vm_report_say(vm, reset ? END_REBOOT : END_POWEROFF, STATUS_FAILED,
				     "the guest ended before the command had");
	}
	if (reason == VM_END_POWEROFF)
		return vm_report_say(vm, END_POWEROFF, STATUS_OK, "the guest powered off");
	if (reset)
		return vm_report_say(vm, END_REBOOT, STATUS_OK, "the guest rebooted, which ends the VM");
	vm_report_last_lines(vm);
	if (reason == VM_END_TRIPLE_FAULT)
		return vm_report_say(vm, END_CRASH, STATUS_GUEST_CRASH, "the guest crashed");
	if (g->halted)
		return vm_report_say(vm, END_POWEROFF, STATUS_OK, "the guest halted");
	return vm_report_say(vm, END_HALT, STATUS_GUEST_HALT, "the guest stopped for good");
}

static int vm_report_reason(const struct vm *vm)
{
	switch (vm_end_reason(&vm->end)) {
	case VM_END_QUIT:
		return vm_report_say(vm, END_USER, vm->guest ? STATUS_FAILED : STATUS_OK, "ended by the user");
	case VM_END_SIGNAL:
		return vm_report_say(vm, END_SIGNAL, -vm->stop.signal, "ended by a signal");
	case VM_END_TIMEOUT:
		return vm_report_say(vm, END_TIMEOUT, STATUS_TIMEOUT, "the time limit has passed");
	case VM_END_KVM:
		vm_report_last_lines(vm);
		return vm_report_say(vm, END_KVM, STATUS_KVM_EXIT, "KVM ended the guest");
	case VM_END_COMMAND:
		return vm_report_command(vm);
	case VM_END_INIT:
		vm_report_last_lines(vm);
		report_line("the guest could not run the command: %s", vm->end.text);
		return STATUS_FAILED;
	case VM_END_BOOT:
		vm_report_last_lines(vm);
		return vm_report_say(vm, END_BOOT, STATUS_FAILED,
				     vm->scan.lines ? "the guest has not started the command" :
						      "the guest has not started the command, and printed nothing; "
						      "--append ignore_loglevel shows its kernel's messages");
	case VM_END_SNAPSHOT:
		if (vm->config->snapshot) {
			result_set(END_USER, -1, 0);
			return STATUS_OK; /* if there is none, its writer has said why, and has another status */
		}
		return vm_report_say(vm, END_USER, STATUS_OK, "ended with a snapshot");
	case VM_END_POWEROFF:
	case VM_END_RESET:
	case VM_END_TRIPLE_FAULT:
	case VM_END_HALT:
	case VM_RUNNING:
		break;
	}
	return vm_report_guest(vm);
}

int vm_report(const struct vm *vm)
{
	int status = vm_report_reason(vm);

	if ((status == STATUS_GUEST_CRASH || status == STATUS_KVM_EXIT) && vm->chain && !chain_is_whole(vm->chain))
		report_line("the memory of its snapshot was cut short while the VM ran: restore it from a whole one");
	return vm->outcome.lost && status == STATUS_OK ? STATUS_FAILED : status;
}

void vm_tell_started(const struct vm *vm)
{
	if (vm->parent->tty_fd >= 0)
		(void)privsep_ask(vm->parent->tty_fd, PRIVSEP_STARTED, 0); /* fails if the process outside is gone */
	else if (vm->parent->record)
		record_started(vm->parent->record);
	if (vm->parent->tty_fd < 0 && vm->parent->member)
		vm->parent->member->running(vm->parent->member);
	notify_ready();
}
