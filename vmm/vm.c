/*
 * Theory of operation.
 *
 * vm_main builds the VM, starts the vCPU threads, serves signals until the VM has ended, and says why it has.
 *
 * The order of construction is the fast one. Since Linux 6.17 a memory slot that is set after anything was registered on
 * KVM's I/O bus (an interrupt controller in the kernel, an ioeventfd) waits for a grace period of RCU: 7 to 20 ms. So:
 * RAM is mapped and filled first, then KVM_CREATE_VM, all memory slots, the split irqchip (which registers nothing), the
 * vCPUs with CPUID, MSRs and registers; ioeventfds only when a driver says DRIVER_OK. No PIT (it is a kernel thread), no
 * PIC, the IOAPIC in user space (ioapic.c). Slots never change while the guest runs.
 *
 * Any thread ends the VM by vm_end; the first reason stands and wakes the main thread. It stops the vCPUs, lets the
 * console write out what the guest had said, closes the drives (vm_close), restores the terminal and reports. KVM's
 * objects and guest RAM, which take the kernel long, are left to the reaper; vm_free is for a VM that could not be built.
 */
#include "vmm/vm.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "loader/acpi.h"
#include "loader/boot_x86.h"
#include "virtio/blk.h"
#include "virtio/device.h"
#include "virtio/mmio.h"
#include "virtio/vsock.h"
#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#define MF_LOG_MODULE "vm"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/boot.h"
#include "vmm/cli.h"
#include "vmm/console.h"
#include "vmm/core/loop.h"
#include "vmm/cpu_x86.h"
#include "vmm/crash.h"
#include "vmm/ioapic.h"
#include "vmm/netdev.h"
#include "vmm/reaper.h"
#include "vmm/serial.h"
#include "vmm/status.h"
#include "vmm/timeline.h"

#define VM_DRAIN_MS 1000U     /* for output that waits when the guest has ended */
#define VM_HALT_CHECK_MS 1000 /* how often the main thread looks for a guest that halted for ever */
#define VM_SETTLE_MS 100      /* after which a boot is over, as far as our own code is concerned */

/* Construction. */

static int build_kvm(struct vm *vm, struct err *e)
{
	int r = kvm_init(&vm->kvm, e);

	if (!r)
		r = kvm_set_memory(&vm->kvm, &vm->mem, e);
	if (!r)
		r = kvm_set_split_irqchip(&vm->kvm, BOOT_NUM_PINS(config_num_devices(vm->config)), e);
	timeline_mark(vm->timeline, TIMELINE_KVM);
	return r;
}

static int send_msi(void *ctx, uint32_t address, uint32_t data)
{
	struct vm *vm = ctx;

	return kvm_signal_msi(&vm->kvm, address, data);
}

static void raise_line(void *ctx, unsigned line)
{
	struct vm *vm = ctx;

	ioapic_raise(vm->ioapic, line);
}

static void raise_serial(void *ctx)
{
	raise_line(ctx, SERIAL_IRQ);
}

static void on_serial_event(void *ctx, enum serial_event event)
{
	struct vm *vm = ctx;

	switch (event) {
	case SERIAL_EVENT_OPENED:
		timeline_mark(vm->timeline, TIMELINE_PID1);
		break;
	case SERIAL_EVENT_OUTPUT:
		timeline_mark(vm->timeline, TIMELINE_OUTPUT);
		break;
	}
}

static const struct serial_ops vm_serial_ops = {
	.raise = raise_serial,
	.event = on_serial_event,
};

static void on_quit(void *ctx)
{
	vm_end(ctx, VM_END_QUIT, "Ctrl-A x");
}

static void on_output(void *ctx, const uint8_t *data, size_t len)
{
	struct vm *vm = ctx;

	guestlog_scan(&vm->guestlog, data, len);
}

static void on_i8042_reset(void *ctx)
{
	vm_end(ctx, VM_END_RESET, "i8042 reset");
}

static void on_acpi_power_off(void *ctx)
{
	vm_end(ctx, VM_END_POWEROFF, "ACPI S5");
}

static void on_acpi_reset(void *ctx)
{
	vm_end(ctx, VM_END_RESET, "ACPI reset");
}

static int build_legacy(struct vm *vm, struct err *e)
{
	struct console_params params = {
		.in_fd = STDIN_FILENO,
		.out_fd = STDOUT_FILENO,
		.on_quit = on_quit,
		.on_output = on_output,
		.ctx = vm,
	};
	int r;

	r = ioapic_new(&vm->ioapic, BOOT_NUM_PINS(config_num_devices(vm->config)), send_msi, vm, e);
	if (r < 0)
		return r;
	r = ioapic_attach_loop(vm->ioapic, vm->io);
	if (r < 0)
		return err_neg(e, r, "add the IOAPIC to its loop");
	r = serial_new(&vm->serial, vm->io, &vm_serial_ops, vm, SERIAL_STALL_MS, e);
	if (r < 0)
		return r;
	r = console_new(&vm->console, vm->serial, vm->io, &params, e);
	if (r < 0)
		return r;
	vm->i8042 = (struct i8042){ .reset = on_i8042_reset, .ctx = vm };
	vm->acpi_pm = (struct acpi_pm){ .power_off = on_acpi_power_off, .reset = on_acpi_reset, .ctx = vm };
	r = bus_add(&vm->mmio, IOAPIC_GPA, IOAPIC_LEN, ioapic_access, vm->ioapic);
	if (!r)
		r = bus_add(&vm->ports, SERIAL_PORT, SERIAL_PORTS, serial_access, vm->serial);
	if (!r)
		r = bus_add(&vm->ports, I8042_PORT, I8042_PORTS, i8042_access, &vm->i8042);
	if (!r)
		r = bus_add(&vm->ports, ACPI_PM_PORT, ACPI_PM_PORTS, acpi_pm_access, &vm->acpi_pm);
	return r ? err_neg(e, r, "place the legacy devices") : 0;
}

/* Puts dev, which is the VM's from here on, behind the next window of the MMIO bus. */
static int place_device(struct vm *vm, struct virtio_dev *dev, struct err *e)
{
	unsigned i = vm->num_devs++;
	struct mmio_irq irq = { .raise = raise_line, .ctx = vm, .line = BOOT_DEVICE_LINE(i) };
	uint64_t gpa = BOOT_DEVICE_GPA(i);
	int r;

	vm->dev[i] = dev;
	r = mmio_new(&vm->transport[i], dev, &vm->kvm, gpa, irq, e);
	if (r < 0)
		return r;
	r = bus_add(&vm->mmio, gpa, MMIO_WINDOW_SIZE, mmio_access, vm->transport[i]);
	return r ? err_neg(e, r, "place %s '%s'", dev->ops->name, dev->id) : 0;
}

static int build_drive(struct vm *vm, const struct config_drive *d, struct err *e)
{
	struct blk_params params = { .id = d->id, .path = d->path, .serial = d->serial, .read_only = d->read_only };
	struct virtio_dev *dev;
	int r = blk_new(&dev, &params, vm->io, &vm->mem, e);

	return r < 0 ? r : place_device(vm, dev, e);
}

static int build_net(struct vm *vm, const struct config_net *n, struct passt *passt, struct err *e)
{
	struct virtio_dev *dev;
	int r = netdev_new(&dev, n, mf_take_fd(&passt->socket), vm->io, &vm->mem, e);

	return r < 0 ? r : place_device(vm, dev, e);
}

static int build_vsock(struct vm *vm, const struct config_vsock *c, struct err *e)
{
	struct vsock_params params = { .path = c->path, .cid = c->cid };
	int r = loop_new(&vm->vsock_loop, "vsock", RING_SOCKETS, e);

	if (!r)
		r = vsock_new(&vm->vsock, &params, vm->vsock_loop, &vm->mem, e);
	if (!r)
		r = place_device(vm, vm->vsock, e);
	return r < 0 ? r : loop_start(vm->vsock_loop, e);
}

static int build_devices(struct vm *vm, struct err *e)
{
	int r = loop_new(&vm->io, "io", RING_FIXED, e);

	if (!r)
		r = build_legacy(vm, e);
	for (unsigned i = 0; !r && i < vm->config->num_drives; i++)
		r = build_drive(vm, &vm->config->drive[i], e);
	for (unsigned i = 0; !r && i < vm->config->num_nets; i++)
		r = build_net(vm, &vm->config->net[i], &vm->passt[i], e);
	if (!r && vm->config->vsock.path)
		r = build_vsock(vm, &vm->config->vsock, e);
	if (!r)
		r = loop_start(vm->io, e);
	timeline_mark(vm->timeline, TIMELINE_DEVICES);
	return r;
}

static int build_vcpus(struct vm *vm, const struct boot_regs *regs, struct err *e)
{
	struct cpu_template *template = NULL;
	int r = cpu_template_new(&template, &vm->kvm, vm->config->cpus, e);

	for (unsigned i = 0; !r && i < vm->config->cpus; i++) {
		vm->num_vcpus++;
		r = vcpu_init(&vm->vcpu[i], vm, i, e);
		if (!r)
			r = cpu_setup(template, vm->vcpu[i].fd, i, e);
	}
	if (!r)
		r = cpu_set_boot_regs(vm->vcpu[0].fd, regs, e);
	cpu_template_free(template);
	timeline_mark(vm->timeline, TIMELINE_VCPUS);
	return r;
}

/* Life. */

static int vm_init(struct vm *vm, const struct config *config, struct timeline *timeline, struct err *e)
{
	*vm = (struct vm){ .config = config, .timeline = timeline, .kvm = KVM_INIT };
	vm->end.fd = -1;
	/* With default attributes these cannot fail. */
	(void)pthread_mutex_init(&vm->end.lock, NULL);
	(void)pthread_mutex_init(&vm->park.lock, NULL);
	(void)pthread_cond_init(&vm->park.changed, NULL);
	vm->end.fd = eventfd(0, EFD_CLOEXEC);
	return vm->end.fd < 0 ? err_sys(e, "make an eventfd") : 0;
}

/* First of all: they start while the rest is built, and there is nothing yet that fork would have to copy. */
static int start_children(struct vm *vm, struct err *e)
{
	for (unsigned i = 0; i < vm->config->num_nets; i++) {
		const struct config_net *n = &vm->config->net[i];

		if (n->kind == CONFIG_NET_USER && passt_start(&vm->passt[i], n, netdev_mtu(n), e) < 0)
			return err_wrap(e, "net '%s'", n->id);
	}
	return 0;
}

static void end_children(struct vm *vm)
{
	for (unsigned i = 0; i < CONFIG_NETS_MAX; i++)
		passt_end(&vm->passt[i]);
}

static int vm_build(struct vm *vm, struct err *e)
{
	struct boot_regs regs;
	int r = start_children(vm, e);

	if (!r)
		r = boot_load(&regs, &vm->mem, vm->config, vm->timeline, e);
	if (!r)
		r = build_kvm(vm, e);
	if (!r)
		r = build_devices(vm, e);
	if (!r)
		r = build_vcpus(vm, &regs, e);
	for (unsigned i = 0; !r && i < vm->config->num_nets; i++)
		r = passt_check(&vm->passt[i], e);
	return r;
}

static void stop_vcpus(struct vm *vm)
{
	for (unsigned i = 0; i < vm->num_vcpus; i++)
		vcpu_kick(&vm->vcpu[i]);
	vm_resume(vm);
	for (unsigned i = 0; i < vm->num_vcpus; i++)
		vcpu_join(&vm->vcpu[i]);
}

/*
 * Ends all activity, in any state of construction: when it returns, no vCPU runs, all output is written, no I/O is in
 * flight, and the drives are free for others. What is left is KVM's objects and guest RAM.
 */
static void vm_close(struct vm *vm)
{
	stop_vcpus(vm);
	if (vm->serial && !serial_drain(vm->serial, VM_DRAIN_MS))
		log_warn("the console's reader is too slow: the last output is lost, continuing");
	if (vm->vsock)
		vsock_finish(vm->vsock, VM_DRAIN_MS);
	for (unsigned i = 0; i < vm->num_devs; i++) {
		if (vm->transport[i])
			mmio_reset(vm->transport[i]);
	}
	console_stop(vm->console); /* or what it starts again could keep the loop from its end */
	if (vm->io)
		loop_stop(vm->io);
	if (vm->vsock_loop)
		loop_stop(vm->vsock_loop);
	for (unsigned i = 0; i < vm->num_devs; i++) {
		mmio_free(vm->transport[i]);
		vm->dev[i]->ops->free(vm->dev[i]);
	}
	end_children(vm);
	console_free(vm->console);
	serial_free(vm->serial);
	ioapic_free(vm->ioapic);
	loop_free(vm->vsock_loop);
	loop_free(vm->io);
}

static void vm_free(struct vm *vm)
{
	vm_close(vm);
	for (unsigned i = 0; i < vm->num_vcpus; i++)
		vcpu_done(&vm->vcpu[i]);
	kvm_done(&vm->kvm);
	mem_done(&vm->mem);
	if (vm->end.fd >= 0)
		close(vm->end.fd);
}

void vm_end(struct vm *vm, enum vm_end_reason reason, const char *fmt, ...)
{
	va_list ap;

	pthread_mutex_lock(&vm->end.lock);
	if (vm->end.reason == VM_RUNNING) {
		timeline_mark(vm->timeline, TIMELINE_END);
		va_start(ap, fmt);
		vsnprintf(vm->end.text, sizeof(vm->end.text), fmt, ap);
		va_end(ap);
		vm->end.reason = (int)reason;
		fdio_event_signal(vm->end.fd);
	}
	pthread_mutex_unlock(&vm->end.lock);
}

bool vm_may_run(struct vm *vm)
{
	return atomic_load_explicit(&vm->end.reason, memory_order_relaxed) == VM_RUNNING;
}

static void check_children(struct vm *vm)
{
	struct err e;

	for (unsigned i = 0; i < vm->config->num_nets; i++) {
		if (passt_check(&vm->passt[i], &e) < 0)
			log_warn("%s; continuing with the link down", e.text);
	}
}

static void take_signal(struct vm *vm, int signal_fd)
{
	struct signalfd_siginfo info;

	if (read(signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGCONT) {
		/* Whoever had the terminal while we were stopped may have changed its mode. */
		console_tty_restore();
		console_tty_raw(STDIN_FILENO);
		return;
	}
	if (info.ssi_signo == SIGCHLD) {
		check_children(vm);
		return;
	}
	vm->end.signal = (int)info.ssi_signo;
	vm_end(vm, VM_END_SIGNAL, "%s", strsignal((int)info.ssi_signo));
}

/*
 * Lets go of the pages of our own code: most are of set-up, parsers and libc's start, never to be needed again. What is
 * needed comes back from the page cache, 64 KiB at a time. perf/boot: 1,053 KiB beyond guest RAM become 637.
 */
static void drop_text(void)
{
	extern char __executable_start[], etext[];
	uint64_t start = mf_align_up((uintptr_t)__executable_start, MF_PAGE_SIZE);
	uint64_t end = mf_align_down((uintptr_t)etext, MF_PAGE_SIZE);

	(void)madvise((void *)(uintptr_t)start, end - start, MADV_DONTNEED); /* only memory would be lost */
}

/* THE main loop: signals and the end of the VM, until it has ended. */
static void serve(struct vm *vm, int signal_fd)
{
	struct pollfd fds[] = {
		{ .fd = vm->end.fd, .events = POLLIN },
		{ .fd = signal_fd, .events = POLLIN },
	};
	int timeout_ms = VM_SETTLE_MS;

	while (vm_may_run(vm)) {
		int n = poll(fds, MF_ARRAY_SIZE(fds), timeout_ms);

		if (n > 0 && fds[1].revents)
			take_signal(vm, signal_fd);
		if (n != 0)
			continue;
		if (timeout_ms == VM_SETTLE_MS)
			drop_text();
		timeout_ms = VM_HALT_CHECK_MS;
		if (vm_is_halted(vm))
			vm_end(vm, VM_END_HALT, "every vCPU halted with interrupts off");
	}
}

static int say(const struct vm *vm, enum status status, const char *what)
{
	if (status != STATUS_OK || vm->config->log_level >= LOG_LEVEL_WARN)
		fprintf(stderr, "mayfly: %s (%s)\n", what, vm->end.text);
	return status;
}

/* What the end means to the user: one line, and the exit status. */
static int report(const struct vm *vm)
{
	const struct guestlog *g = &vm->guestlog;

	switch ((enum vm_end_reason)vm->end.reason) {
	case VM_END_QUIT:
		return say(vm, STATUS_OK, "ended by the user");
	case VM_END_SIGNAL:
		return say(vm, STATUS_SIGNAL_BASE + vm->end.signal, "ended by a signal");
	case VM_END_KVM:
		return say(vm, STATUS_KVM_EXIT, "KVM ended the guest");
	case VM_END_POWEROFF: /* a kernel that has panicked cannot */
		return say(vm, STATUS_OK, "the guest powered off");
	case VM_END_RESET:
	case VM_END_TRIPLE_FAULT:
	case VM_END_HALT:
	case VM_RUNNING:
		break;
	}
	if (g->panic[0]) {
		fprintf(stderr, "mayfly: the guest kernel panicked: %s (%s)\n", g->panic, vm->end.text);
		return STATUS_GUEST_PANIC;
	}
	if (vm->end.reason == VM_END_RESET || (vm->end.reason == VM_END_TRIPLE_FAULT && g->restarting))
		return say(vm, STATUS_OK, "the guest rebooted, so it has ended");
	if (vm->end.reason == VM_END_TRIPLE_FAULT)
		return say(vm, STATUS_GUEST_CRASH, "the guest crashed");
	if (g->halted)
		return say(vm, STATUS_OK, "the guest halted");
	return say(vm, STATUS_GUEST_HALT, "the guest stopped for ever");
}

/* Signals come through a descriptor, to the main thread alone: blocked before any thread is made. */
static int open_signals(struct err *e)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGQUIT);
	sigaddset(&set, SIGCONT);
	sigaddset(&set, SIGCHLD);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	fd = signalfd(-1, &set, SFD_CLOEXEC);
	return fd < 0 ? err_sys(e, "make a signalfd") : fd;
}

static int vm_run(struct vm *vm, int signal_fd, struct err *e)
{
	int r = 0;

	for (unsigned i = 0; !r && i < vm->num_vcpus; i++)
		r = vcpu_start(&vm->vcpu[i], e);
	if (r < 0)
		vm_end(vm, VM_END_KVM, "%s", e->text);
	serve(vm, signal_fd);
	return r;
}

int vm_main(const struct config *config, struct timeline *timeline)
{
	static struct vm vm; /* not on the stack: it is large, and threads use it until the process ends */
	MF_CLOSE int signal_fd = -1;
	struct err e;
	int status;
	bool raw;

	if (vm_init(&vm, config, timeline, &e) < 0 || crash_setup(&e) < 0 || vcpu_signal_setup(&e) < 0 ||
	    (signal_fd = open_signals(&e)) < 0 || vm_build(&vm, &e) < 0) {
		vm_free(&vm);
		return cli_fail(&e);
	}
	raw = console_tty_raw(STDIN_FILENO);
	status = vm_run(&vm, signal_fd, &e) < 0 ? STATUS_FAILED : STATUS_OK;
	vm_close(&vm);
	console_tty_restore();
	if (raw)
		fputc('\n', stderr);
	status = status == STATUS_OK ? report(&vm) : cli_fail(&e);
	reaper_start();
	return status;
}
