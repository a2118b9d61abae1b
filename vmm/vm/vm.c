/*
 * Theory of operation.
 *
 * vm_main builds the VM (vm_build.c), starts the vCPU threads, serves signals and the guest's init until the VM has ended
 * (vm_serve), closes it (vm_close), and reports why it has ended (vm_report.c).
 *
 * The order of construction is chosen for speed. Since Linux 6.17, setting a memory slot after anything was registered on
 * KVM's I/O bus (an interrupt controller in the kernel, an ioeventfd) waits for an RCU grace period: 7 to 20 ms. So RAM is
 * mapped and filled first; then come KVM_CREATE_VM, all memory slots, the split irqchip (which registers nothing), and the
 * vCPUs with CPUID, MSRs and registers. ioeventfds are added when a driver sets DRIVER_OK. There is no PIT (it is a kernel
 * thread) and no PIC, and the IOAPIC is in user space (ioapic.c). Slots never change while the guest runs.
 *
 * Any thread ends the VM by vm_end; the first reason stands and wakes the main thread. vm_close then stops the vCPUs,
 * drains the console and closes the drives. KVM's objects and guest RAM, which the kernel frees slowly, are left to
 * async_teardown.c.
 */
#include "vmm/vm/vm.h"

#include <limits.h>
#include <link.h>
#include <linux/kvm.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "virtio/blk.h"
#include "virtio/device.h"
#include "virtio/mmio.h"
#include "virtio/vsock.h"
#include "vmm/base/clock.h"
#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/log.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"
#include "vmm/core/loop.h"
#include "vmm/guest/guest_client.h"
#include "vmm/helper/helpers.h"
#include "vmm/jail/parent.h"
#include "vmm/jail/privsep.h"
#include "vmm/platform/console.h"
#include "vmm/platform/ioapic.h"
#include "vmm/platform/serial.h"
#include "vmm/process/async_teardown.h"
#include "vmm/process/crash.h"
#include "vmm/process/ending.h"
#include "vmm/process/log_relay.h"
#include "vmm/process/notify.h"
#include "vmm/process/tty.h"
#include "vmm/vm/timeline.h"
#include "vmm/vm/vm_state.h"
#include "vmm/vm/vm_write.h"

#define VM_DRAIN_MS 1000U     /* for pending output when the guest has ended by itself */
#define VM_DRAIN_ASKED_MS 100 /* the same of a VM that was asked to end */
#define VM_PAUSE_MS 100	      /* for vCPUs to park, when we look whether they have halted */
#define VM_POLL_OWN 7U	      /* descriptors of the main loop, beside those of guest_client.h */
#define VM_SETTLE_MS 100      /* without an event: our own part of the boot is then over */

static int vm_init(struct vm *vm, const struct config *config, struct timeline *timeline, struct jail_parent *parent,
		   struct err *e)
{
	*vm = (struct vm){ .config = config,
			   .timeline = timeline,
			   .parent = parent,
			   .engine = config->io_engine,
			   .kvm = KVM_INIT,
			   .pagemap_fd = -1,
			   .output.fd = -1,
			   .snapshot = { .pidfd = -1 },
			   .uffd = -1,
			   .scan = CONSOLE_SCAN_INIT,
			   .i8042 = I8042_INIT,
			   .gate = GATE_INIT };
	vm->vcpu_env = (struct vcpu_env){
		.kvm = &vm->kvm,
		.mem = &vm->mem,
		.ports = &vm->ports,
		.mmio = &vm->mmio,
		.confine = &vm->confine,
		.gate = &vm->gate,
		.end = &vm->end,
		.halt = &vm->halt,
		.timeline = timeline,
	};
	if (vm_end_init(&vm->end, timeline, e) < 0)
		return e->code;
	log_relay_init(vm->end.wake_fd);
	confine_init(&vm->confine, config->seccomp);
	confine_warn(config->seccomp);
	vm->confine.value[SLOT_WAKE] = vm->end.wake_fd;
	vm->confine.value[SLOT_COUNTER] = timeline->counter_fd;
	return 0;
}

static void vm_kick_vcpus(struct vm *vm)
{
	for (unsigned i = 0; i < vm->num_vcpus; i++)
		vcpu_kick(&vm->vcpu[i]);
}

/*
 * Ends all activity, in any state of construction: when it returns, no vCPU runs, all output is written, no I/O is in
 * flight, and the drives are unlocked. KVM's objects and guest RAM, which the kernel frees slowly, end with the process.
 *
 * The waits for threads, files and programs have no limits of their own: the clock of ending.c ends the process.
 */
static void vm_close(struct vm *vm)
{
	const unsigned drain_ms = ending_was_asked() ? VM_DRAIN_ASKED_MS : VM_DRAIN_MS;

	ending_close();
	notify_stopping();
	ending_step("a vCPU", NULL);
	vm_kick_vcpus(vm);
	gate_open(&vm->gate);
	gate_await_left(&vm->gate);
	ending_step("the console", NULL);
	if (vm->serial && !serial_drain(vm->serial, drain_ms)) {
		log_warn("the console's reader is too slow: the last output is lost, continuing");
		vm->outcome.lost = true;
	}
	ending_step("vsock", NULL);
	if (vm->vsock)
		vsock_finish(vm->vsock, drain_ms);
	for (unsigned i = 0; i < vm->num_devs; i++) {
		ending_step("device", vm->dev[i]->id);
		if (vm->transport[i])
			mmio_reset(vm->transport[i]);
	}
	ending_step("the I/O threads", NULL);
	console_stop(vm->console); /* else it could start I/O again and keep the loop from stopping */
	if (vm->io)
		loop_stop(vm->io);
	console_scan(&vm->scan, "\n", 1); /* its last line may have no end */
	if (vm->vsock_loop)
		loop_stop(vm->vsock_loop);
	for (unsigned i = 0; vm->guest && i < vm->config->num_drives && i < vm->num_devs; i++)
		vm->outcome.lost = vm->outcome.lost || blk_has_lost(vm->dev[i]);
	for (unsigned i = 0; i < vm->num_devs; i++) {
		mmio_free(vm->transport[i]);
		vm->dev[i]->ops->free(vm->dev[i]);
	}
	if ((vm->guest && !guest_client_finish(vm->guest, drain_ms)) || console_has_lost(vm->console))
		vm->outcome.lost = true;
	guest_client_free(vm->client);
	ending_step("an artifact", NULL);
	/* The guest's ends of their sockets are closed now. A VM that did not run owes nothing. */
	if (vm_end_reason(&vm->end) != VM_RUNNING && !helpers_finish(vm->parent->helpers))
		vm->outcome.lost = true;
	helpers_end(vm->parent->helpers);
	ending_step("mayfly", NULL);
	vm_write_drop(vm);
	console_free(vm->console);
	if (vm->output.fd >= 0)
		close(vm->output.fd);
	serial_free(vm->serial);
	ioapic_free(vm->ioapic);
	loop_free(vm->vsock_loop);
	loop_free(vm->io);
}

void vm_active(struct vm *vm)
{
	if (halt_active(&vm->halt))
		vm_end_wake(&vm->end);
}

/* Whether the terminal is to be in raw mode, so that keys go to the guest unchanged. */
static bool vm_wants_raw(const struct config *config)
{
	return config->command.args.num == 0 || config->command.terminal;
}

/* The process that writes a snapshot has ended: its client waits for that. */
static void vm_tell_snapshot(struct vm *vm)
{
	struct err e;
	int r = vm_snapshot_check(vm, &e);

	if (vm->config->template.made)
		vm_end(&vm->end, r < 0 ? VM_END_KVM : VM_END_SNAPSHOT, "%s", r < 0 ? e.text : "it is a template now");
	if (vm->client)
		guest_client_snapshot_done(vm->client, vm->snapshot.pause_ns, r < 0 ? &e : NULL);
	vm_write_end(vm, r < 0 ? &e : NULL);
}

static void vm_take_signal(struct vm *vm, int signal_fd)
{
	int signo = ending_take(signal_fd);

	if (signo == SIGCONT) {
		tty_again(vm_wants_raw(vm->config));
	} else if (signo == SIGCHLD) {
		helpers_check(vm->parent->helpers);
	} else if (signo) {
		vm_stop_signal(vm, signo);
	}
}

/*
 * Drops the pages of our own code and constants: most are set-up, parsers and libc's start, and not needed again. The others come
 * back from the page cache, 64 KiB at a time; configs/startup.ld has those of the code side by side.
 */
static void vm_drop_text(void)
{
	extern const ElfW(Ehdr) __ehdr_start;
	const uintptr_t base = (uintptr_t)&__ehdr_start;
	const ElfW(Phdr) *p = (const ElfW(Phdr) *)(base + __ehdr_start.e_phoff);

	for (unsigned i = 0; i < __ehdr_start.e_phnum; i++) {
		uint64_t start = mf_align_down(base + p[i].p_vaddr, MF_PAGE_SIZE);

		if (p[i].p_type == PT_LOAD && !(p[i].p_flags & PF_W)) /* only memory would be lost */
			(void)madvise((void *)start, base + p[i].p_vaddr + p[i].p_memsz - start, MADV_DONTNEED);
	}
}

/* The VM has ended, the guest is active again, or a thread that may not write the log has a line for it. */
static void vm_take_wake(struct vm *vm)
{
	uint64_t count;

	(void)!read(vm->end.wake_fd, &count, sizeof(count)); /* the caller checks for what else it may be */
	log_relay_flush();
	if (atomic_exchange(&vm->foreground, false))
		vm_on_foreground(vm);
	if (vm->guest && atomic_exchange(&vm->console_began, false))
		vm_guest_ops.started(vm);
}

/*
 * Whether no vCPU can ever run again. No loop takes part in a pause, so it cannot deadlock with a vCPU that is inside
 * loop_call: that one parks when the call has returned.
 */
static bool vm_is_halted(struct vm *vm)
{
	bool dead;

	gate_close(&vm->gate);
	vm_kick_vcpus(vm);
	dead = gate_await_parked(&vm->gate, VM_PAUSE_MS);
	if (!dead)
		vm_active(vm); /* a vCPU waits for a loop, and may halt when that has answered: look again */
	for (unsigned i = 0; dead && i < vm->num_vcpus; i++)
		dead = vcpu_is_dead(&vm->vcpu[i]);
	gate_open(&vm->gate);
	return dead;
}

/*
 * Whether a signal waits. A client that sent SIGTERM gets no answer after that, as if the process had died at once; and
 * poll may have found a request before the signal's handler ran.
 */
static bool vm_has_signal(int signal_fd)
{
	struct pollfd fd = { .fd = signal_fd, .events = POLLIN };

	return poll(&fd, 1, 0) > 0;
}

/* Whether vCPUs may run: those of a VM that is paused, or ends with its snapshot, are parked, and say nothing of a halt. */
static bool vm_may_halt(const struct vm *vm)
{
	return !vm->paused && !vm->snapshot.stop;
}

/* The main loop, until the VM has ended: signals, messages of the guest's init, limits, and the check for a halt. */
static void vm_serve(struct vm *vm, int signal_fd)
{
	struct pollfd fds[VM_POLL_OWN + GUEST_CLIENT_FDS_MAX] = {
		{ .fd = vm->end.wake_fd, .events = POLLIN },
		{ .fd = signal_fd, .events = POLLIN },
		{ .fd = vm->attendant ? vm->attendant->fd : -1, .events = POLLIN },
		{ .fd = -1 },
		{ .fd = vm->attendant ? vm->attendant->guest_fd : -1, .events = POLLIN },
		{ .fd = vm->parent->member ? vm->parent->member->client_fd : -1, .events = POLLIN },
		{ .fd = vm_claim_fd(vm), .events = POLLIN },
	};
	bool settles = true;

	halt_begin(&vm->halt, clock_now_ms());
	vm_stop_begin(vm);
	while (vm_end_reason(&vm->end) == VM_RUNNING) {
		unsigned num = vm->client ? guest_client_poll_fds(vm->client, fds + VM_POLL_OWN) : 0;
		int wait_ms = INT_MAX, n;

		if (settles)
			wait_ms = VM_SETTLE_MS;
		else if (vm_may_halt(vm))
			wait_ms = halt_timeout(&vm->halt, clock_now_ms());

		fds[3] = (struct pollfd){ .fd = vm->snapshot.pidfd, .events = POLLIN };
		n = poll(fds, VM_POLL_OWN + num, guest_client_timeout(vm->client, vm_stop_timeout(vm, wait_ms)));
		if (n > 0 && fds[0].revents)
			vm_take_wake(vm);
		if (n > 0 && fds[2].revents && !vm_has_signal(signal_fd))
			vm->attendant->serve(vm->attendant->ctx);
		if (n > 0 && fds[5].revents && !ending_take_remote(fds[5].fd))
			fds[5].fd = -1; /* the client has gone, and the VM ends by SIGHUP */
		if (n > 0 && fds[6].revents) {
			fds[6].fd = -1;
			fds[5].fd = vm_claim_take(vm);
		}
		if (n > 0 && fds[1].revents)
			vm_take_signal(vm, signal_fd);
		if (n > 0 && fds[3].revents)
			vm_tell_snapshot(vm);
		if (n > 0 && fds[4].revents)
			vm->attendant->serve_guest(vm->attendant->ctx);
		if (n >= 0 && vm->client)
			guest_client_serve(vm->client, fds + VM_POLL_OWN, num);
		vm_stop_check(vm);
		if (n == 0 && settles) {
			settles = false;
			vm_drop_text();
		}
		if (vm_may_halt(vm) && halt_is_due(&vm->halt, clock_now_ms()) && vm_is_halted(vm))
			vm_end(&vm->end, VM_END_HALT, "every vCPU halted with interrupts off");
	}
}

static enum thread_kind vm_main_kind(const struct vm *vm)
{
	return vm->attendant ? THREAD_MAIN_API : vm->config->forkable ? THREAD_MAIN_FORK : THREAD_MAIN;
}

static int vm_run(struct vm *vm, int signal_fd, struct err *e)
{
	static const struct confine_own own = CONFINE_OWN_NONE;
	int r = 0;

	gate_close(&vm->gate); /* no guest code runs before this thread is confined */
	if (vm->attendant)
		vm->tsc_khz = ioctl(vm->vcpu[0].fd, KVM_GET_TSC_KHZ);
	for (unsigned i = 0; !r && i < vm->num_vcpus; i++)
		r = vcpu_start(&vm->vcpu[i], e);
	ending_serve();
	if (!r)
		r = vm_claim_await(vm, e);
	if (!r)
		r = confine_thread(&vm->confine, vm_main_kind(vm), &own, e);
	if (r < 0)
		vm_end(&vm->end, VM_END_KVM, "%s", e->text);
	if (!vm->paused)
		gate_open(&vm->gate);
	if (vm->attendant)
		vm->attendant->started(vm->attendant->ctx, vm);
	if (r == 0 && !vm->guest)
		vm_tell_started(vm);
	vm_serve(vm, signal_fd);
	if (vm->attendant)
		vm->attendant->ended(vm->attendant->ctx);
	return r;
}

/* In a jail the terminal's foreground group is not visible, so the outer process sets the mode. */
static bool vm_set_raw(const struct vm *vm)
{
	if (!vm_wants_raw(vm->config))
		return false;
	if (vm->parent->tty_fd >= 0)
		return privsep_ask(vm->parent->tty_fd, PRIVSEP_TTY_RAW, 0) > 0;
	return tty_raw(STDIN_FILENO);
}

void vm_on_foreground(void *ctx)
{
	(void)vm_set_raw(ctx); /* a terminal that is not ours any more stays as it is */
}

static void vm_restore_tty(const struct vm *vm)
{
	if (vm->parent->tty_fd >= 0)
		(void)privsep_ask(vm->parent->tty_fd, PRIVSEP_TTY_RESTORE, 0); /* fails if it is gone and has done so */
	else
		tty_restore();
}

/* The VM could not be built. Its attendant may try again, so what a process that ends leaves to the kernel is freed. */
static int vm_refuse(struct vm *vm, const struct err *why)
{
	vm_close(vm);
	if (!vm->attendant)
		return report_err(why);
	kvm_done(&vm->kvm);
	mem_done(&vm->mem);
	vm->attendant->failed(vm->attendant->ctx, why);
	return STATUS_FAILED;
}

int vm_main(const struct config *config, struct timeline *timeline, struct jail_parent *parent,
	    const struct vm_attendant *attendant)
{
	static struct vm vm; /* too large for the stack, and threads use it until the process ends */
	struct err e;
	bool raw;
	int r;

	(void)mallopt(M_ARENA_MAX, 1); /* the threads' filters do not allow heaps of their own; a failure shows there */
	if (config->forkable)
		(void)mallopt(M_MMAP_MAX,
			      0); /* nor does the main thread's allow mappings: lists of layers can be large */
	if (vm_init(&vm, config, timeline, parent, &e) < 0)
		return report_err(&e);
	vm.attendant = attendant;
	vm.vcpu_env.steal = attendant;
	vm.paused = attendant && attendant->paused;
	if ((!attendant && crash_setup(&e) < 0) || vcpu_signal_setup(&e) < 0 || async_teardown_prepare(&e) < 0 ||
	    vm_build(&vm, &e) < 0)
		return vm_refuse(&vm, &e);
	tty_keep_group(); /* it cannot change, and the filter forbids to ask later */
	raw = vm_set_raw(&vm);
	r = vm_run(&vm, parent->signal_fd, &e);
	vm_close(&vm);
	log_relay_flush();
	timeline_mark(timeline, TIMELINE_GONE);
	if (timeline->about)
		kvm_stats_read(&timeline->about->kvm);
	vm_restore_tty(&vm);
	if (raw && !vm.guest)
		fputc('\n', stderr);
	return r < 0 ? report_err(&e) : vm_report(&vm);
}
