/* What the guest finds when it starts; see boot.h. */
#include "vmm/boot.h"

#include <string.h>
#include <sys/random.h>

#include "loader/boot_x86.h"
#include "loader/cmdline.h"
#include "loader/elf.h"
#include "loader/initrd.h"
#include "loader/layout.h"
#include "loader/mptable.h"
#define MF_LOG_MODULE "boot"
#include "vmm/base/log.h"
#include "vmm/config.h"
#include "vmm/core/mem.h"
#include "vmm/serial.h"
#include "vmm/timeline.h"

static int write_cmdline(char line[LAYOUT_CMDLINE_SIZE], const struct config *c, struct err *e)
{
	struct cmdline_device devices[CONFIG_DEVICES_MAX];
	struct cmdline_in in = {
		.cpus = c->cpus,
		.has_root = c->num_drives && !c->initrd,
		.root_read_only = c->num_drives && c->drive[0].read_only,
		.devices = devices,
		.num_devices = config_num_devices(c),
		.append = c->append,
		.replace = c->cmdline,
	};

	for (unsigned i = 0; i < config_num_devices(c); i++) {
		devices[i] = (struct cmdline_device){
			.gpa = BOOT_DEVICE_GPA(i),
			.size = MMIO_WINDOW_SIZE,
			.irq = BOOT_DEVICE_LINE(i),
		};
	}
	return cmdline_compose(line, LAYOUT_CMDLINE_SIZE, &in, e);
}

static enum boot_entry boot_entry_of(const struct config *c)
{
	switch (c->entry) {
	case CONFIG_ENTRY_LINUX64:
		return BOOT_ENTRY_LINUX64;
	case CONFIG_ENTRY_PVH:
		return BOOT_ENTRY_PVH;
	case CONFIG_ENTRY_AUTO:
		break;
	}
	return BOOT_ENTRY_AUTO;
}

static int write_mptable(struct mem *m, const struct config *c, struct err *e)
{
	uint8_t irq_of_pin[MPTABLE_PINS_MAX];

	memset(irq_of_pin, MPTABLE_PIN_UNUSED, sizeof(irq_of_pin));
	irq_of_pin[SERIAL_IRQ] = SERIAL_IRQ;
	for (unsigned i = 0; i < config_num_devices(c); i++)
		irq_of_pin[BOOT_DEVICE_LINE(i)] = (uint8_t)BOOT_DEVICE_LINE(i);
	return mptable_write(m, c->cpus, irq_of_pin, BOOT_NUM_PINS(config_num_devices(c)), e);
}

int boot_load(struct boot_regs *ret, struct mem *m, const struct config *c, struct timeline *t, struct err *e)
{
	char cmdline[LAYOUT_CMDLINE_SIZE];
	uint8_t seed[BOOT_SEED_SIZE];
	struct elf_image kernel;
	struct boot_in in = { .entry = boot_entry_of(c), .kernel = &kernel, .cmdline = cmdline };
	int r;

	r = mem_init(m, c->mem, e);
	if (r < 0)
		return r;
	timeline_mark(t, TIMELINE_MEMORY);
	r = elf_load(&kernel, m, c->kernel, e);
	if (r < 0)
		return r;
	if (c->initrd) {
		r = initrd_load(m, c->initrd, kernel.highest, &in.initrd_gpa, &in.initrd_size, e);
		if (r < 0)
			return r;
	}
	r = write_cmdline(cmdline, c, e);
	if (r < 0)
		return r;
	log_info("kernel command line: %s", cmdline);
	/* A kernel that has no random numbers yet is no reason not to boot: the guest gathers its own then. */
	if (getrandom(seed, sizeof(seed), GRND_NONBLOCK) == (ssize_t)sizeof(seed))
		in.rng_seed = seed;
	r = boot_write(ret, m, &in, e);
	explicit_bzero(seed, sizeof(seed));
	if (r < 0)
		return r;
	r = write_mptable(m, c, e);
	timeline_mark(t, TIMELINE_KERNEL);
	return r;
}
