/*
 * The way to the end of a VM when somebody asks for it. A VM is in one of three states:
 *
 *	running		nobody has asked for the end: stop.asked is VM_RUNNING
 *	stopping	the guest was asked to end by itself, and has until stop.grace_ms
 *	ended		vm_end has given the reason: the vCPUs leave the guest, and the main thread closes the VM
 *
 *	running -> stopping	by a signal or the time limit, if a command's init hears of it: it sends SIGTERM to everything
 *	running -> ended	by the same, if there is no such init; by SIGINT, if no command hears that or it is the second
 *				within ENDING_INT_MS; and without being asked, by vm_end on any thread: the guest's own
 *				end, its command's, KVM, keys, a boot that hangs
 *	stopping -> ended	init reports the command's end, the time is over, or there is a second request; and by
 *				vm_end as above
 *
 * The first request decides the exit status, whatever the command's own. SIGINT, SIGQUIT, SIGUSR1 and SIGUSR2 are the
 * command's while it runs. How long closing the VM may take is up to ending.c.
 */
#include "vmm/vm/vm.h"
#include "vmm/vm/vm_fork.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/result.h"
#include "vmm/base/util.h"
#include "vmm/guest/guest_client.h"
#include "vmm/guest/stdio_relay.h"
#include "vmm/jail/parent.h"
#include "vmm/process/crash.h"
#include "vmm/process/ending.h"
#include "vmm/process/notify.h"
#include "vmm/vm/timeline.h"
#include "vmm/vm/vm_state.h"

#define VM_GRACE_MS 1200U

_Static_assert(VM_GRACE_MS < ENDING_ASKED_MS, "the rest is for closing the VM");

void vm_stop_begin(struct vm *vm)
{
	const uint64_t limit_ms = vm->config->boot_timeout_ms;

	if (vm->guest && limit_ms && limit_ms != CONFIG_NO_LIMIT)
		vm->stop.boot_ms = clock_now_ms() + limit_ms;
}

int vm_stop_timeout(const struct vm *vm, int max_ms)
{
	uint64_t due = vm->stop.grace_ms ? vm->stop.grace_ms : vm->parent->limit_ms, now;

	if (vm->stop.boot_ms && (!due || vm->stop.boot_ms < due))
		due = vm->stop.boot_ms;
	if (!due)
		return max_ms;
	now = clock_now_ms();
	return due <= now ? 0 : (int)MF_MIN(due - now, (uint64_t)max_ms);
}

/* To "ended", for the reason that was asked for. */
static void vm_stop_end(struct vm *vm)
{
	const unsigned long long limit_ms = vm->config->timeout_ms;

	if (vm->stop.asked == VM_END_TIMEOUT)
		vm_end(&vm->end, VM_END_TIMEOUT, "%llu.%03llu s", limit_ms / 1000, limit_ms % 1000);
	else
		vm_end(&vm->end, VM_END_SIGNAL, "%s", strsignal(vm->stop.signal));
}

/* The end is asked for: to "stopping", if gently and the guest can be asked, or to "ended". */
static void vm_stop_ask(struct vm *vm, enum vm_end_reason reason, int signo, bool gently)
{
	if (vm->stop.asked != VM_RUNNING) {
		ending_cut();
		vm_stop_end(vm);
		return;
	}
	vm->stop.asked = reason;
	vm->stop.signal = signo;
	notify_stopping();
	ending_ask(reason == VM_END_TIMEOUT ? STATUS_TIMEOUT : -signo);
	/* Half of it for processes that ignore the signal, half for artifacts. */
	if (gently && vm->guest && guest_client_stop(vm->guest, vm->config->stop_signal, VM_GRACE_MS / 2))
		vm->stop.grace_ms = clock_now_ms() + VM_GRACE_MS;
	else
		vm_stop_end(vm);
}

void vm_stop_check(struct vm *vm)
{
	const unsigned long long limit_ms = vm->config->boot_timeout_ms;
	uint64_t now;

	if (!vm->parent->limit_ms && !vm->stop.grace_ms && !vm->stop.boot_ms)
		return;
	now = clock_now_ms();
	if (vm->stop.grace_ms && now >= vm->stop.grace_ms)
		vm_stop_end(vm);
	else if (vm->stop.asked == VM_RUNNING && vm->parent->limit_ms && now >= vm->parent->limit_ms)
		vm_stop_ask(vm, VM_END_TIMEOUT, 0, true);
	else if (vm->stop.boot_ms && now >= vm->stop.boot_ms)
		vm_end(&vm->end, VM_END_BOOT, "after %llu.%03llu s; --boot-timeout TIME allows more", limit_ms / 1000,
		       limit_ms % 1000);
}

/* To the command, if it runs. It may end by the signal. */
static bool vm_stop_pass(struct vm *vm, int signo)
{
	if (!vm->guest || !guest_client_signal(vm->guest, signo))
		return false;
	vm->stop.passed = signo;
	return true;
}

static void vm_stop_interrupt(struct vm *vm)
{
	uint64_t now = clock_now_ms();
	bool second = vm->stop.int_ms && now - vm->stop.int_ms < ENDING_INT_MS;

	vm->stop.int_ms = now;
	if (second || vm->stop.asked != VM_RUNNING || !vm_stop_pass(vm, SIGINT))
		vm_stop_ask(vm, VM_END_SIGNAL, SIGINT, false);
}

void vm_stop_signal(struct vm *vm, int signo)
{
	switch (signo) {
	case SIGWINCH:
		guest_client_resize(vm->guest);
		break;
	case SIGINT:
		vm_stop_interrupt(vm);
		break;
	case SIGUSR1:
	case SIGUSR2:
		(void)guest_client_signal(vm->guest, signo); /* lost if no command runs yet */
		break;
	case SIGQUIT:
		if (vm->stop.asked == VM_RUNNING && vm_stop_pass(vm, signo))
			break;
		__attribute__((fallthrough));
	default:
		vm_stop_ask(vm, VM_END_SIGNAL, signo, true);
	}
}

/* What the guest's init reports. */

static void vm_on_mark(void *ctx, enum init_mark mark)
{
	static const enum timeline_step steps[] = {
		[INIT_MARK_INIT] = TIMELINE_INIT,
		[INIT_MARK_ROOT] = TIMELINE_ROOT,
		[INIT_MARK_NET] = TIMELINE_NET,
	};
	struct vm *vm = ctx;

	if (mark == INIT_MARK_WAITS) {
		vm_become_template(vm);
		return;
	}
	timeline_mark(vm->timeline, steps[mark]);
	if (mark == INIT_MARK_INIT)
		result_at(RESULT_BOOTED);
}

static void vm_on_started(void *ctx)
{
	struct vm *vm = ctx;

	vm->stop.boot_ms = 0;
	if (vm->config->template.link && !atomic_exchange(&vm->config->template.link->started, true) &&
	    vm->config->template.used)
		close(vm->config->template.record_fd);
	timeline_mark(vm->timeline, TIMELINE_STARTED);
	vm_tell_started(vm);
	result_at(RESULT_COMMAND);
}

static void vm_on_output(void *ctx)
{
	struct vm *vm = ctx;

	timeline_mark(vm->timeline, TIMELINE_BYTE);
}

static void vm_on_exited(void *ctx, unsigned status, unsigned flags, const char *text)
{
	struct vm *vm = ctx;

	timeline_mark(vm->timeline, TIMELINE_EXIT);
	vm->outcome = (struct vm_outcome){
		.status = status,
		.signalled = flags & INIT_SIGNALLED,
		.oom = flags & INIT_OOM,
		.lost = flags & INIT_LOST,
	};
	if (vm->stop.asked == VM_RUNNING)
		vm_end(&vm->end, VM_END_COMMAND, "%s", text);
	else
		vm_stop_end(vm);
}

static void vm_on_failed(void *ctx, const char *text)
{
	struct vm *vm = ctx;

	vm_end(&vm->end, VM_END_INIT, "%s", text);
}

static void vm_on_left(void *ctx)
{
	struct vm *vm = ctx;

	vm_end(&vm->end, VM_END_QUIT, "Ctrl-] three times");
}

static void vm_on_ran(void *ctx, int fd, const struct exec_result *result)
{
	const struct vm *vm = ctx;

	vm->attendant->ran(vm->attendant->ctx, fd, result);
}

/* Of a pool's member that runs. */
static void vm_on_warm(void *ctx)
{
	struct vm *vm = ctx;

	vm->stop.boot_ms = 0;
	vm->parent->member->ready(vm->parent->member);
}

/* On a thread of the command's streams. */
static int vm_on_stream_thread(void *ctx, const struct stdio_relay_thread *thread, struct err *e)
{
	const struct vm *vm = ctx;

	return stdio_relay_confine(thread, &vm->confine, e);
}

const struct guest_client_ops vm_guest_ops = {
	.mark = vm_on_mark,
	.started = vm_on_started,
	.output = vm_on_output,
	.exited = vm_on_exited,
	.failed = vm_on_failed,
	.foreground = vm_on_foreground,
	.left = vm_on_left,
	.info = vm_info,
	.snapshot = vm_on_snapshot,
	.fork = vm_on_fork,
	.snapshot_over = vm_on_snapshot_over,
	.ran = vm_on_ran,
	.snapper_left = vm_on_snapper_left,
	.warm = vm_on_warm,
	.guard = vm_on_stream_thread,
};
