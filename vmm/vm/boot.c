/* Guest memory as it is before the first instruction; see boot.h. */
#include "vmm/vm/boot.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "loader/acpi.h"
#include "loader/boot_x86.h"
#include "loader/cmdline.h"
#include "loader/device.h"
#include "loader/init/proto.h"
#include "loader/initrd.h"
#include "loader/kernel.h"
#include "loader/layout.h"
#include "loader/mptable.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/core/mem.h"
#include "vmm/guest/boot_init.h"
#include "vmm/platform/acpi_pm.h"
#include "vmm/platform/i8042.h"
#include "vmm/platform/serial.h"
#include "vmm/vm/timeline.h"

/* The virtio devices, as the command line, the MP table and ACPI list them. */
struct devices {
	struct loader_device device[CONFIG_DEVICES_MAX];
	unsigned num;
};

_Static_assert(CONFIG_DEVICES_MAX <= ACPI_DEVICES_MAX, "all devices fit into the ACPI tables");
_Static_assert(CONFIG_DEVICES_MAX <= LAYOUT_ATTENTION_WORDS, "each device has an attention word");
_Static_assert(BOOT_NUM_PINS(CONFIG_DEVICES_MAX) <= MPTABLE_PINS_MAX, "all devices fit into the MP table");
_Static_assert(CONFIG_CPUS_MAX <= ACPI_CPUS_MAX && CONFIG_CPUS_MAX <= MPTABLE_CPUS_MAX, "all CPUs fit into the tables");

static void boot_list_devices(struct devices *d, const struct config *c)
{
	d->num = config_num_devices(c);
	for (unsigned i = 0; i < d->num; i++) {
		d->device[i] = (struct loader_device){
			.gpa = BOOT_DEVICE_GPA(i),
			.size = MMIO_WINDOW_SIZE,
			.irq = BOOT_DEVICE_LINE(i),
		};
	}
}

static int boot_write_cmdline(char line[LAYOUT_CMDLINE_SIZE], const struct config *c, const struct devices *d,
			      struct err *e)
{
	const struct cmdline_in in = {
		.cpus = c->cpus,
		.init = c->command.args.num ? INIT_PATH : NULL,
		.has_root = c->num_drives && !c->initrd && !c->command.args.num,
		.root_read_only = c->num_drives && c->drive[0].read_only,
		.devices = d->device,
		.num_devices = d->num,
		.append = c->append,
		.replace = c->cmdline,
	};

	return cmdline_compose(line, LAYOUT_CMDLINE_SIZE, &in, e);
}

static const enum boot_entry boot_entries[] = {
	[CONFIG_ENTRY_AUTO] = BOOT_ENTRY_AUTO,
	[CONFIG_ENTRY_LINUX64] = BOOT_ENTRY_LINUX64,
	[CONFIG_ENTRY_PVH] = BOOT_ENTRY_PVH,
};

static int boot_write_mptable(struct mem *m, const struct config *c, const struct devices *d, struct err *e)
{
	uint8_t irq_of_pin[MPTABLE_PINS_MAX];

	memset(irq_of_pin, MPTABLE_PIN_UNUSED, sizeof(irq_of_pin));
	irq_of_pin[SERIAL_IRQ] = SERIAL_IRQ;
	if (c->keyboard)
		irq_of_pin[I8042_IRQ] = I8042_IRQ;
	for (unsigned i = 0; i < d->num; i++)
		irq_of_pin[d->device[i].irq] = (uint8_t)d->device[i].irq;
	return mptable_write(m, c->cpus, irq_of_pin, BOOT_NUM_PINS(d->num), e);
}

static int boot_write_acpi(struct mem *m, const struct config *c, const struct devices *d, struct err *e)
{
	const struct acpi_in in = {
		.cpus = c->cpus,
		.serial_port = SERIAL_PORT,
		.serial_irq = SERIAL_IRQ,
		.keyboard_port = c->keyboard ? I8042_PORT : 0,
		.keyboard_irq = I8042_IRQ,
		.generation_gpa = LAYOUT_VM_ID,
		.generation_irq = BOOT_GENERATION_LINE,
		.sleep_control_port = ACPI_PM_PORT + ACPI_PM_SLEEP_CONTROL,
		.sleep_status_port = ACPI_PM_PORT + ACPI_PM_SLEEP_STATUS,
		.reset_port = ACPI_PM_PORT + ACPI_PM_RESET,
		.reset_value = ACPI_PM_RESET_VALUE,
		.s5 = ACPI_PM_S5,
		.devices = d->device,
		.num_devices = d->num,
	};

	return acpi_write(m, &in, e);
}

static int boot_load_initrd(struct mem *m, const struct config *c, const struct kernel_image *kernel,
			    struct boot_in *in, struct err *e)
{
	MF_FREE uint8_t *archive = NULL;
	size_t len = 0;
	int r = 0;

	if (c->command.args.num)
		r = boot_init_archive(&archive, &len, c, e);
	if (r < 0 || (!len && !c->initrd))
		return r;
	return initrd_load(m, c->initrd, archive, len, kernel, &in->initrd_gpa, &in->initrd_size, e);
}

int boot_write_vm_id(struct mem *m, struct err *e)
{
	uint8_t *id = mem_at(m, LAYOUT_VM_ID, LAYOUT_VM_ID_SIZE), random[LAYOUT_VM_ID_SIZE];

	if (!id)
		return err_set(e, -EFAULT, "no guest memory at 0x%llx", LAYOUT_VM_ID);
	/* Not in place: no signal ends the wait of a system call for a page server (page_server.h). */
	if (getrandom(random, sizeof(random), GRND_NONBLOCK) != (ssize_t)sizeof(random))
		return err_sys(e, "getrandom");
	memcpy(id, random, sizeof(random));
	return 0;
}

int boot_load(struct boot_regs *ret, struct mem *m, const struct config *c, struct timeline *t, struct err *e)
{
	char cmdline[LAYOUT_CMDLINE_SIZE];
	uint8_t seed[BOOT_SEED_SIZE];
	struct kernel_image kernel;
	struct devices devices;
	struct boot_in in = {
		.entry = boot_entries[c->entry],
		.kernel = &kernel,
		.cmdline = cmdline,
		.rsdp_gpa = LAYOUT_ACPI,
		.windows_gpa = BOOT_DEVICE_GPA(0),
		.window_size = MMIO_WINDOW_SIZE,
		.num_windows = config_num_devices(c),
	};
	int r;

	if (mem_init(m, c->mem, e) < 0 || (c->forkable && mem_share(m, e) < 0))
		return e->code;
	timeline_mark(t, TIMELINE_MEMORY);
	boot_list_devices(&devices, c);
	if (kernel_load(&kernel, m, c->kernel, e) < 0 || boot_load_initrd(m, c, &kernel, &in, e) < 0 ||
	    boot_write_cmdline(cmdline, c, &devices, e) < 0)
		return e->code;
	log_info("kernel command line: %s", cmdline);
	/* A host that has no random numbers yet must not delay the boot: the guest then gathers its own. */
	if (getrandom(seed, sizeof(seed), GRND_NONBLOCK) == (ssize_t)sizeof(seed))
		in.rng_seed = seed;
	r = boot_write(ret, m, &in, e);
	explicit_bzero(seed, sizeof(seed));
	if (!r && in.rng_seed)
		r = boot_write_vm_id(m, e);
	if (!r)
		r = boot_write_mptable(m, c, &devices, e);
	if (!r)
		r = boot_write_acpi(m, c, &devices, e);
	timeline_mark(t, TIMELINE_KERNEL);
	return r;
}
