/*
 * How a VM is made to end, and what is said of it.
 *
 * Without a command, a signal or the time limit ends the VM at once. With one, the guest is asked first: init sends SIGTERM
 * to everything and has VM_GRACE_MS to end; then the VM is ended whatever it does, as it is by a second request. SIGINT,
 * SIGQUIT, SIGUSR1 and SIGUSR2 are the command's; a second SIGINT within ENDING_INT_MS ends the VM, as does any while no
 * command runs that would hear it. What the end itself may take is ending.c's affair.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/clock.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"
#include "vmm/guest/guest_client.h"
#include "vmm/guest/stdio_relay.h"
#include "vmm/jail/parent.h"
#include "vmm/process/crash.h"
#include "vmm/process/ending.h"
#include "vmm/vm/timeline.h"
#include "vmm/vm/vm.h"

#define VM_GRACE_MS 1200U

_Static_assert(VM_GRACE_MS < ENDING_ASKED_MS, "the rest is for closing the VM");

int vm_stop_timeout(const struct vm *vm, int max_ms)
{
	uint64_t due = vm->stop.hard_ms ? vm->stop.hard_ms : vm->parent->limit_ms, now;

	if (!due)
		return max_ms;
	now = clock_now_ms();
	return due <= now ? 0 : (int)MF_MIN(due - now, (uint64_t)max_ms);
}

static void end_as_asked(struct vm *vm)
{
	if (vm->stop.reason == VM_END_TIMEOUT)
		vm_end(vm, VM_END_TIMEOUT, "%llu.%03llu s", (unsigned long long)vm->config->timeout_ms / 1000,
		       (unsigned long long)vm->config->timeout_ms % 1000);
	else
		vm_end(vm, VM_END_SIGNAL, "%s", strsignal(vm->end.signal));
}

/* Ends the VM for this reason: softly, if there is somebody to be asked, and it was not asked before. */
static void stop(struct vm *vm, enum vm_end_reason reason, int signo, bool softly)
{
	if (vm->stop.reason != VM_RUNNING) {
		ending_cut();
		end_as_asked(vm);
		return;
	}
	vm->stop.reason = reason;
	vm->end.signal = signo;
	ending_ask(reason == VM_END_TIMEOUT ? STATUS_TIMEOUT : STATUS_SIGNAL_BASE + signo);
	/* Half of it for processes that do not hear SIGTERM, half for artifacts. */
	if (softly && vm->guest && guest_client_stop(vm->guest, VM_GRACE_MS / 2))
		vm->stop.hard_ms = clock_now_ms() + VM_GRACE_MS;
	else
		end_as_asked(vm);
}

void vm_stop_check(struct vm *vm)
{
	uint64_t now;

	if (!vm->parent->limit_ms && !vm->stop.hard_ms)
		return;
	now = clock_now_ms();
	if (vm->stop.hard_ms && now >= vm->stop.hard_ms)
		end_as_asked(vm);
	else if (vm->stop.reason == VM_RUNNING && now >= vm->parent->limit_ms)
		stop(vm, VM_END_TIMEOUT, 0, true);
}

static void interrupt(struct vm *vm)
{
	uint64_t now = clock_now_ms();
	bool second = vm->stop.int_ms && now - vm->stop.int_ms < ENDING_INT_MS;

	vm->stop.int_ms = now;
	if (second || vm->stop.reason != VM_RUNNING || !vm->guest || !guest_client_signal(vm->guest, SIGINT))
		stop(vm, VM_END_SIGNAL, SIGINT, false);
}

void vm_take_signal(struct vm *vm, int signo)
{
	switch (signo) {
	case SIGWINCH:
		guest_client_resize(vm->guest);
		break;
	case SIGINT:
		interrupt(vm);
		break;
	case SIGUSR1:
	case SIGUSR2:
		(void)guest_client_signal(vm->guest, signo); /* before there is a command it is for nobody */
		break;
	case SIGQUIT:
		if (vm->stop.reason == VM_RUNNING && vm->guest && guest_client_signal(vm->guest, signo))
			break;
		__attribute__((fallthrough));
	default:
		stop(vm, VM_END_SIGNAL, signo, true);
	}
}

/* What the guest's init reports. */

static void on_mark(void *ctx, enum init_mark mark)
{
	static const enum timeline_step steps[] = {
		[INIT_MARK_INIT] = TIMELINE_INIT,
		[INIT_MARK_ROOT] = TIMELINE_ROOT,
		[INIT_MARK_NET] = TIMELINE_NET,
	};
	struct vm *vm = ctx;

	timeline_mark(vm->timeline, steps[mark]);
}

static void on_started(void *ctx)
{
	struct vm *vm = ctx;

	timeline_mark(vm->timeline, TIMELINE_STARTED);
}

static void on_output(void *ctx)
{
	struct vm *vm = ctx;

	timeline_mark(vm->timeline, TIMELINE_BYTE);
}

static void on_exited(void *ctx, unsigned status, unsigned flags, const char *text)
{
	struct vm *vm = ctx;

	timeline_mark(vm->timeline, TIMELINE_EXIT);
	vm->end.status = status;
	vm->end.oom = flags & INIT_OOM;
	vm->end.lost = flags & INIT_LOST;
	if (vm->stop.reason == VM_RUNNING)
		vm_end(vm, VM_END_COMMAND, "%s", text);
	else
		end_as_asked(vm);
}

static void on_failed(void *ctx, const char *text)
{
	vm_end(ctx, VM_END_INIT, "%s", text);
}

static void on_left(void *ctx)
{
	vm_end(ctx, VM_END_QUIT, "Ctrl-] three times");
}

/* On a thread of the command's streams. */
static int on_pump(void *ctx, const struct stdio_relay_pump *pump, struct err *e)
{
	const struct vm *vm = ctx;
	struct confine_own own = CONFINE_OWN_NONE;

	own.own = pump->from;
	own.to = pump->to;
	own.changed = pump->relay->changed_fd;
	crash_thread();
	return confine_thread(&vm->confine, THREAD_PUMP, &own, e);
}

const struct guest_client_ops vm_guest_ops = {
	.mark = on_mark,
	.started = on_started,
	.output = on_output,
	.exited = on_exited,
	.failed = on_failed,
	.left = on_left,
	.guard = on_pump,
};

/* What is said at the end. */

static int say(const struct vm *vm, enum status status, const char *what)
{
	if (status != STATUS_OK || vm->config->log_level >= LOG_LEVEL_WARN)
		report_line("%s (%s)", what, vm->end.text);
	return status;
}

static int report_command(const struct vm *vm)
{
	if (vm->end.text[0])
		report_line("%s", vm->end.text);
	if (vm->end.oom)
		report_line("the guest's memory was used up: its kernel has killed a process (-m SIZE gives it more)");
	return (int)vm->end.status;
}

/* The guest has ended by itself, or by a reset; fallback: what that means if nothing else is known. */
static int report_guest(const struct vm *vm)
{
	const struct console_scan *g = &vm->scan;
	bool reset = vm->end.reason == VM_END_RESET || (vm->end.reason == VM_END_TRIPLE_FAULT && g->restarting);

	if (g->panic[0]) {
		report_line("the guest kernel panicked: %s (%s)", g->panic, vm->end.text);
		return STATUS_GUEST_PANIC;
	}
	if (vm->guest && (reset || g->halted || vm->end.reason == VM_END_POWEROFF)) {
		if (g->status >= 0)
			return g->status;
		return say(vm, STATUS_FAILED, "the guest ended before the command had");
	}
	if (vm->end.reason == VM_END_POWEROFF)
		return say(vm, STATUS_OK, "the guest powered off");
	if (reset)
		return say(vm, STATUS_OK, "the guest rebooted, so it has ended");
	if (vm->end.reason == VM_END_TRIPLE_FAULT)
		return say(vm, STATUS_GUEST_CRASH, "the guest crashed");
	if (g->halted)
		return say(vm, STATUS_OK, "the guest halted");
	return say(vm, STATUS_GUEST_HALT, "the guest stopped for ever");
}

static int report(const struct vm *vm)
{
	switch ((enum vm_end_reason)vm->end.reason) {
	case VM_END_QUIT:
		return say(vm, vm->guest ? STATUS_FAILED : STATUS_OK, "ended by the user");
	case VM_END_SIGNAL:
		return say(vm, STATUS_SIGNAL_BASE + vm->end.signal, "ended by a signal");
	case VM_END_TIMEOUT:
		return say(vm, STATUS_TIMEOUT, "the time limit has passed");
	case VM_END_KVM:
		return say(vm, STATUS_KVM_EXIT, "KVM ended the guest");
	case VM_END_COMMAND:
		return report_command(vm);
	case VM_END_INIT:
		report_line("the guest could not run the command: %s", vm->end.text);
		return STATUS_FAILED;
	case VM_END_POWEROFF:
	case VM_END_RESET:
	case VM_END_TRIPLE_FAULT:
	case VM_END_HALT:
	case VM_RUNNING:
		break;
	}
	return report_guest(vm);
}

int vm_report(const struct vm *vm)
{
	int status = report(vm);

	return vm->end.lost && status == STATUS_OK ? STATUS_FAILED : status;
}
