/*
 * The construction of a VM, in the order that vm.c explains, and the functions that its devices call.
 */
#include "vmm/vm/vm.h"

#include <assert.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <unistd.h>

#include "loader/boot_x86.h"
#include "loader/layout.h"
#include "virtio/blk.h"
#include "virtio/device.h"
#include "virtio/mmio.h"
#include "virtio/vsock.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/result.h"
#include "vmm/base/util.h"
#include "vmm/core/loop.h"
#include "vmm/guest/guest_client.h"
#include "vmm/helper/helpers.h"
#include "vmm/jail/parent.h"
#include "vmm/jail/privsep.h"
#include "vmm/platform/acpi_pm.h"
#include "vmm/platform/console.h"
#include "vmm/platform/ioapic.h"
#include "vmm/platform/serial.h"
#include "vmm/process/crash.h"
#include "vmm/process/tty.h"
#include "vmm/vm/boot.h"
#include "vmm/vm/cpu_change.h"
#include "vmm/vm/cpu_state.h"
#include "vmm/vm/cpu_x86.h"
#include "vmm/vm/net_build.h"
#include "vmm/vm/nofile.h"
#include "vmm/vm/timeline.h"
#include "vmm/vm/vm_output.h"
#include "vmm/vm/vm_state.h"

static int vm_build_kvm(struct vm *vm, struct err *e)
{
	int r = kvm_init(&vm->kvm, e);

	if (!r)
		r = kvm_set_memory(&vm->kvm, &vm->mem, e);
	if (!r)
		r = kvm_set_split_irqchip(&vm->kvm, BOOT_NUM_PINS(config_num_devices(vm->config)), e);
	vm->confine.value[SLOT_VM] = vm->kvm.vm_fd;
	timeline_mark(vm->timeline, TIMELINE_KVM);
	return r;
}

static int vm_confine_loop(struct vm *vm, enum thread_kind kind, const struct confine_own *own)
{
	struct err e;

	crash_thread();
	if (confine_thread(&vm->confine, kind, own, &e) < 0) {
		log_error("%s", e.text);
		return e.code;
	}
	return 0;
}

/* Called by the loops' threads before they serve anything. */

static int vm_confine_io(void *ctx, enum loop_thread which)
{
	struct vm *vm = ctx;
	struct confine_own own = CONFINE_OWN_NONE;

	own.own = loop_ring_fd(vm->io);
	own.epoll = loop_epoll_fd(vm->io);
	for (unsigned i = 0; i < CONFINE_MEMORY_FILES; i++)
		own.memory[i] = loop_memory_fd(vm->io, i);
	if (own.own >= 0)
		return vm_confine_loop(vm, vm->attendant ? THREAD_IO_API : THREAD_IO, &own);
	own.own = loop_done_fd(vm->io);
	return vm_confine_loop(vm, which == LOOP_THREAD_WORKER ? THREAD_IO_WORKER : THREAD_IO_SYNC, &own);
}

#define VSOCK_WATCHES 2 /* the device's notifications, and calls: VSOCK in filters/rules.h reads two */

static int vm_confine_vsock(void *ctx, enum loop_thread which)
{
	struct vm *vm = ctx;
	struct confine_own own = CONFINE_OWN_NONE;

	(void)which; /* there is only one kind */
	own.own = loop_ring_fd(vm->vsock_loop);
	own.epoll = loop_epoll_fd(vm->vsock_loop);
	own.listen = vsock_listen_fd(vm->vsock);
	assert(loop_file(vm->vsock_loop, VSOCK_WATCHES) < 0);
	for (unsigned i = 0; i < VSOCK_WATCHES; i++)
		own.watch[i] = loop_file(vm->vsock_loop, i);
	return vm_confine_loop(vm, own.own >= 0 ? THREAD_VSOCK : THREAD_VSOCK_SYNC, &own);
}

static int vm_send_msi(void *ctx, uint32_t address, uint32_t data)
{
	struct vm *vm = ctx;

	vm_active(vm);
	return kvm_signal_msi(&vm->kvm, address, data);
}

static void vm_raise_line(void *ctx, unsigned line)
{
	struct vm *vm = ctx;

	ioapic_raise(vm->ioapic, line);
}

static void vm_raise_serial(void *ctx)
{
	vm_raise_line(ctx, SERIAL_IRQ);
}

static void vm_ask_keyboard(void *ctx)
{
	struct vm *vm = ctx;

	ioapic_ask(vm->ioapic, I8042_IRQ);
}

static void vm_on_serial_event(void *ctx, enum serial_event event)
{
	struct vm *vm = ctx;

	timeline_mark(vm->timeline, event == SERIAL_EVENT_OPENED ? TIMELINE_PID1 : TIMELINE_OUTPUT);
	if (event == SERIAL_EVENT_OPENED)
		result_at(RESULT_BOOTED);
}

static const struct serial_ops vm_serial_ops = {
	.raise = vm_raise_serial,
	.event = vm_on_serial_event,
};

static void vm_on_quit(void *ctx)
{
	struct vm *vm = ctx;

	vm_end(&vm->end, VM_END_QUIT, "Ctrl-A x");
}

static void vm_on_console(void *ctx, const uint8_t *data, size_t len)
{
	struct vm *vm = ctx;

	console_scan(&vm->scan, data, len);
	if (vm->client && guest_client_scan(vm->client, data, len))
		vm_end_wake(&vm->end);
	if (vm->guest && vm->scan.on_console && !vm->console_shown) {
		vm->console_shown = true;
		atomic_store(&vm->console_began, true);
		vm_end_wake(&vm->end);
		log_warn("the guest's kernel has no virtio-vsock: the command runs on the console, where stdout and "
			 "stderr are one stream and stdin is empty; continuing");
		console_unmute(vm->console);
	}
}

/* The context of these three is the end of the VM. */

static void vm_on_i8042_reset(void *ctx)
{
	vm_end(ctx, VM_END_RESET, "i8042 reset");
}

static void vm_on_acpi_power_off(void *ctx)
{
	vm_end(ctx, VM_END_POWEROFF, "ACPI S5");
}

static void vm_on_acpi_reset(void *ctx)
{
	vm_end(ctx, VM_END_RESET, "ACPI reset");
}

static bool vm_tty_is_ours(void *ctx)
{
	(void)ctx;
	return tty_is_ours(STDIN_FILENO);
}

/* On the io loop, which may not change the terminal. */
static void vm_on_console_foreground(void *ctx)
{
	struct vm *vm = ctx;

	atomic_store(&vm->foreground, true);
	vm_end_wake(&vm->end);
}

/* A signal stack for each vCPU and for the other threads, of which there are few. */
_Static_assert(CRASH_STACKS >= CONFIG_CPUS_MAX + 16, "threads without a signal stack");

static int vm_build_legacy(struct vm *vm, struct err *e)
{
	struct console_params params = {
		.in_fd = vm->config->command.args.num ? -1 : STDIN_FILENO, /* a command's streams are connections */
		.out_fd = vm->config->console ? STDERR_FILENO : STDOUT_FILENO,
		.muted = vm->config->command.args.num && !vm->config->console,
		.on_quit = vm_on_quit,
		.is_ours = vm_tty_is_ours,
		.on_foreground = vm_on_console_foreground,
		.on_output = vm_on_console,
		.ctx = vm,
	};
	int r;

	r = ioapic_new(&vm->ioapic, BOOT_NUM_PINS(config_num_devices(vm->config)), vm_send_msi, vm, e);
	if (r < 0)
		return r;
	r = ioapic_attach_loop(vm->ioapic, vm->io);
	if (r < 0)
		return err_neg(e, r, "add the IOAPIC to its loop");
	r = serial_new(&vm->serial, vm->io, &vm_serial_ops, vm, SERIAL_STALL_MS, e);
	if (r < 0)
		return r;
	if (vm->restore.data)
		serial_hold(vm->serial);
	if (params.muted)
		serial_set_muted(vm->serial);
	r = vm_output_set(vm, &params, e);
	if (!r)
		r = console_new(&vm->console, vm->serial, vm->io, &params, e);
	if (r < 0)
		return r;
	vm->confine.value[SLOT_IOAPIC] = ioapic_event_fd(vm->ioapic);
	vm->confine.value[SLOT_SERIAL] = serial_event_fd(vm->serial);
	vm->confine.value[SLOT_OUTPUT] = console_plain_fd(vm->console);
	vm->i8042.reset = vm_on_i8042_reset;
	vm->i8042.ctx = &vm->end;
	vm->i8042.raise = vm_ask_keyboard;
	vm->i8042.raise_ctx = vm;
	if (vm->config->keyboard && !vm->restore.data) /* else the snapshot has it, or not */
		i8042_connect(&vm->i8042);
	vm->acpi_pm = (struct acpi_pm){ .power_off = vm_on_acpi_power_off, .reset = vm_on_acpi_reset, .ctx = &vm->end };
	r = bus_add(&vm->mmio, IOAPIC_GPA, IOAPIC_LEN, ioapic_access, vm->ioapic);
	if (!r)
		r = bus_add(&vm->ports, SERIAL_PORT, SERIAL_PORTS, serial_access, vm->serial);
	if (!r)
		r = bus_add(&vm->ports, I8042_PORT, I8042_PORTS, i8042_access, &vm->i8042);
	if (!r)
		r = bus_add(&vm->ports, ACPI_PM_PORT, ACPI_PM_PORTS, acpi_pm_access, &vm->acpi_pm);
	if (!r && vm->config->boot_timer)
		r = bus_add(&vm->mmio, BOOT_TIMER_GPA, BOOT_TIMER_LEN, boot_timer_access, &vm->boot_timer);
	return r ? err_neg(e, r, "place the legacy devices") : 0;
}

/* Places dev in the next window of the MMIO bus. The VM owns dev from here on. */
static int vm_place_device(struct vm *vm, struct virtio_dev *dev, struct err *e)
{
	unsigned i = vm->num_devs++;
	struct mmio_irq irq = {
		.raise = vm_raise_line,
		.ctx = vm,
		.line = BOOT_DEVICE_LINE(i),
		.attention = mem_at(&vm->mem, LAYOUT_ATTENTION + i * sizeof(uint32_t), sizeof(uint32_t)),
	};
	uint64_t gpa = BOOT_DEVICE_GPA(i);
	int r;

	vm->dev[i] = dev;
	r = mmio_new(&vm->transport[i], dev, &vm->kvm, gpa, irq, e);
	if (r < 0)
		return r;
	r = bus_add(&vm->mmio, gpa, MMIO_WINDOW_SIZE, mmio_access, vm->transport[i]);
	return r ? err_neg(e, r, "place %s '%s'", dev->ops->name, dev->id) : 0;
}

static int vm_build_drive(struct vm *vm, const struct config_drive *d, struct err *e)
{
	struct blk_params params = {
		.id = d->id,
		.path = d->path,
		.serial = d->serial,
		.read_only = d->read_only,
		.direct = d->direct,
		.cut = vm->attendant,
		.unsafe = d->cache == CONFIG_CACHE_UNSAFE,
		.overlay = d->overlay,
		.overlay_size = d->overlay_size,
		.overlay_dir = d->overlay_dir,
		.base = d->base,
		.kept = config_drive_is_made(d),
		.any_image = d->replaced || d->image || vm->config->template.used,
		.lenient = vm->attendant,
		.bandwidth = d->bandwidth,
		.ops = d->ops,
	};
	struct virtio_dev *dev;
	int r = blk_new(&dev, &params, vm->io, &vm->mem, e);

	return r < 0 ? r : vm_place_device(vm, dev, e);
}

static int vm_build_net(struct vm *vm, unsigned i, struct err *e)
{
	struct helpers *h = vm->parent->helpers;
	const struct net_build b = {
		.config = vm->config,
		.net = &vm->config->net[i],
		.passt_fd = mf_take_fd(&h->passt[i].socket),
		.own = h->own,
		.num_own = h->num_own,
		.offered = vm->config->template.made ? atomic_load(&vm->config->template.link->offered[i]) : 0,
		.loop = vm->io,
		.mem = &vm->mem,
	};
	struct virtio_dev *dev;
	int r = net_build(&dev, &b, e);

	return r < 0 ? r : vm_place_device(vm, dev, e);
}

static int vm_connect_outside(void *ctx, uint32_t port)
{
	const struct vm *vm = ctx;

	return privsep_ask(vm->parent->vsock_fd, PRIVSEP_CONNECT, port);
}

/* If the host forbids io_uring, "auto" becomes "sync" here, for this loop and the next. */
static int vm_new_loop(struct vm *vm, struct loop **ret, const char *name, enum loop_kind kind, struct err *e)
{
	struct err why;
	int r = loop_new(ret, name, vm->engine, kind, &why);

	if (r == 0)
		return 0;
	if (vm->engine != LOOP_ENGINE_AUTO)
		return err_set(e, r, "%s%s", why.text,
			       vm->engine == LOOP_ENGINE_RING ? ", or use --io-engine=auto" : "");
	log_info("%s; continuing with --io-engine=sync", why.text);
	vm->engine = LOOP_ENGINE_SYNC;
	return loop_new(ret, name, vm->engine, kind, e);
}

static int vm_build_client(struct vm *vm, struct err *e)
{
	const int snapshot_fd = vm->config->snapshot ? mf_take_fd(&vm->parent->helpers->snapshot_fd) : -1;
	int r = vm_info_prepare(vm, e);

	return r ? r : guest_client_new(&vm->client, vm->vsock, vm->config, snapshot_fd, &vm_guest_ops, vm, e);
}

/* Lends the guest the socket of a helper, which is the device's from then on. */
static int vm_lend(struct vm *vm, uint32_t port, int *socket)
{
	int r = vsock_lend(vm->vsock, port, *socket);

	if (!r)
		*socket = -1;
	return r;
}

static int vm_build_vsock(struct vm *vm, const struct config_vsock *c, struct err *e)
{
	struct vsock_params params = {
		.path = c->path,
		.path_later = vm->config->pool_runs,
		.cid = c->cid,
		.max_conns = vm->max_conns,
		.connect = vm->parent->vsock_fd >= 0 ? vm_connect_outside : NULL,
		.ctx = vm,
	};
	int r = vm_new_loop(vm, &vm->vsock_loop, "vsock", LOOP_SOCKETS, e);

	if (!r) {
		vm->confine.value[SLOT_VSOCK_WAKE] = loop_wake_fd(vm->vsock_loop);
		loop_set_guard(vm->vsock_loop, vm_confine_vsock, vm);
	}
	if (!r)
		r = vsock_new(&vm->vsock, &params, vm->vsock_loop, &vm->mem, e);
	if (!r)
		r = vm_place_device(vm, vm->vsock, e);
	if (!r && vm->config->command.args.num)
		r = vm_build_client(vm, e);
	vm->guest = vm->client;
	for (unsigned i = 0; !r && i < vm->config->num_artifacts; i++)
		r = vm_lend(vm, INIT_ARTIFACT_PORT + i, &vm->parent->helpers->artifact[i].socket);
	for (unsigned i = 0; !r && i < vm->config->num_live; i++)
		r = vm_lend(vm, INIT_LIVE_PORT + i, &vm->parent->helpers->live[i].socket);
	return r < 0 ? r : loop_start(vm->vsock_loop, e);
}

static int vm_build_devices(struct vm *vm, struct err *e)
{
	int r = vm_new_loop(vm, &vm->io, "io", vm->attendant ? LOOP_EXCHANGEABLE : LOOP_FIXED, e);

	if (!r) {
		vm->confine.value[SLOT_IO_WAKE] = loop_wake_fd(vm->io);
		loop_set_guard(vm->io, vm_confine_io, vm);
	}
	if (!r)
		r = vm_build_legacy(vm, e);
	for (unsigned i = 0; !r && i < vm->config->num_drives; i++)
		r = vm_build_drive(vm, &vm->config->drive[i], e);
	for (unsigned i = 0; !r && i < vm->config->num_nets; i++)
		r = vm_build_net(vm, i, e);
	if (!r && config_has_vsock(vm->config))
		r = vm_build_vsock(vm, &vm->config->vsock, e);
	if (!r && !vm->client && (vm->config->control || vm->config->snapshot))
		r = vm_build_client(vm, e);
	if (!r)
		r = loop_start(vm->io, e);
	timeline_mark(vm->timeline, TIMELINE_DEVICES);
	return r;
}

/* For sockets in directories of other users: to connect to them, and to remove ours; and to rename the result. */
static void vm_allow_names(struct vm *vm)
{
	const struct config *c = vm->config;

	if (c->vsock.path || c->control || c->result_file || c->pool_runs)
		vm->confine.capabilities = 1ULL << CAP_DAC_OVERRIDE;
}

/* A member of a pool waits with all that is the same for each client. */
static int vm_settle(struct vm *vm, struct err *e)
{
	struct jail_member *m = vm->parent->member;
	int r = m && !vm->config->pool_runs ? m->settle(m, e) : vm_claim_prepare(vm, e);

	vm_allow_names(vm);
	return r;
}

static int vm_build_vcpus(struct vm *vm, const struct boot_regs *regs, struct err *e)
{
	const struct config_cpu *changes = vm->restore.data ? NULL : vm->config->cpu;
	int r = vm->restore.data ? 0 : cpu_template_new(&vm->cpu, &vm->kvm, vm->config->cpus, e);

	if (!r && changes)
		r = cpu_change_template(vm->cpu, &vm->kvm, changes, e);
	for (unsigned i = 0; !r && i < vm->config->cpus; i++) {
		vm->num_vcpus++;
		r = vcpu_init(&vm->vcpu[i], &vm->vcpu_env, i, e);
		if (!r)
			r = cpu_setup(vm->cpu, vm->vcpu[i].fd, i, e);
		if (!r && changes)
			r = cpu_change_msrs(vm->vcpu[i].fd, changes, e);
		if (!r && vm->restore.data)
			r = cpu_state_restore(&vm->kvm, vm->vcpu[i].fd, i, &vm->restore.in, e);
		if (!r && vm->timeline->about)
			kvm_stats_add(&vm->timeline->about->kvm, vm->vcpu[i].fd);
	}
	if (!r && !vm->restore.data)
		r = cpu_set_boot_regs(vm->vcpu[0].fd, regs, e);
	timeline_mark(vm->timeline, TIMELINE_VCPUS);
	return r;
}

int vm_build(struct vm *vm, struct err *e)
{
	struct boot_regs regs;
	int r = seccomp_no_new_privs(e); /* for all threads; not before passt starts, which changes its user */

	if (vm->config->boot_timer)
		boot_timer_start(&vm->boot_timer);
	if (!r)
		r = nofile_raise(vm->config, &vm->max_conns, e);
	if (!r && vm->config->restore_state)
		r = vm_restore_open(vm, e);
	else if (!r)
		r = boot_load(&regs, &vm->mem, vm->config, vm->timeline, e);
	if (!r)
		r = vm_build_kvm(vm, e);
	if (!r)
		r = vm_settle(vm, e);
	if (!r)
		r = vm_build_devices(vm, e);
	if (!r)
		r = vm_build_vcpus(vm, &regs, e);
	if (!r && vm->restore.data)
		r = vm_restore_rest(vm, e);
	if (!r && (vm->config->control || vm->config->pool_runs || vm->config->template.made || vm->attendant))
		vm->pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC); /* a snapshot can do without */
	if (!r && vm->config->template.link)
		for (unsigned i = 0; i < vm->config->num_nets; i++)
			atomic_store(&vm->config->template.link->offered[i],
				     vm->dev[vm->config->num_drives + i]->offered);
	return r ? r : helpers_await(vm->parent->helpers, e); /* they have had the time that all this took */
}
