/* Guest memory and registers before the first instruction: that each part of the configuration arrives in its place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/random.h>

#include <cmocka.h>

#include "loader/acpi.h"
#include "loader/boot_x86.h"
#include "loader/device.h"
#include "loader/layout.h"
#include "loader/mptable.h"
#include "tests/unit/elf_fixture.h"
#include "vmm/config/config.h"
#include "vmm/vm/boot.h"
#include "vmm/vm/timeline.h"

static struct config config;
static struct timeline timeline;
static struct boot_regs regs;
static bool has_random;

ssize_t getrandom(void *buf, size_t len, unsigned flags)
{
	assert_int_equal(flags, GRND_NONBLOCK);
	memset(buf, 0x5e, len);
	return has_random ? (ssize_t)len : (ssize_t)len - 1;
}

static int boot_setup(void **state)
{
	struct image im;

	(void)state;
	good_image(&im);
	write_image(&im);
	config_init(&config);
	config.kernel = path;
	config.mem = RAM;
	timeline_init(&timeline);
	memset(&regs, 0xee, sizeof(regs));
	has_random = true;
	return 0;
}

static void load(void)
{
	mem_done(&ram);
	ram = (struct mem){ 0 };
	assert_int_equal(boot_load(&regs, &ram, &config, &timeline, &err), 0);
}

static const char *cmdline(void)
{
	return mem_at(&ram, LAYOUT_CMDLINE, LAYOUT_CMDLINE_SIZE);
}

static const struct boot_params *zero_page(void)
{
	return mem_at(&ram, LAYOUT_ZERO_PAGE, sizeof(struct boot_params));
}

static bool memory_has(uint64_t gpa, uint64_t len, const void *what, size_t what_len)
{
	return memmem(mem_at(&ram, gpa, len), len, what, what_len);
}

static void test_plain(void **state)
{
	(void)state;
	load();
	assert_int_equal(ram.size, RAM);
	assert_true(regs.long_mode);
	assert_int_equal(regs.rip, TEXT + 0x123);
	assert_int_equal(regs.rsi, LAYOUT_ZERO_PAGE);
	assert_int_equal(zero_page()->hdr.cmd_line_ptr, LAYOUT_CMDLINE);
	assert_int_equal(zero_page()->hdr.ramdisk_size, 0);
	assert_int_equal(zero_page()->acpi_rsdp_addr, LAYOUT_ACPI);
	assert_memory_equal(mem_at(&ram, LAYOUT_ACPI, 8), "RSD PTR ", 8);
	assert_true(memory_has(0, LAYOUT_GDT, "_MP_", 4));
	assert_true(memory_has(0, LAYOUT_GDT, "PCMP", 4));
	assert_null(strstr(cmdline(), "root="));
	assert_null(strstr(cmdline(), "virtio_mmio"));
	assert_true(timeline.mark[TIMELINE_MEMORY].set && timeline.mark[TIMELINE_KERNEL].set);
}

/* The root is the first drive, and the devices are where the VM puts them. */
static void test_devices(void **state)
{
	(void)state;
	config.num_drives = 2;
	config.num_nets = 1;
	config.cpus = 4;
	config.vsock.path = (char *)(uintptr_t) "v";
	load();
	assert_non_null(strstr(cmdline(), "root=/dev/vda rw"));
	for (unsigned i = 0; i < 4; i++) {
		char gpa[32], irq[8];
		const char *at;

		snprintf(gpa, sizeof(gpa), "@0x%llx:", (unsigned long long)BOOT_DEVICE_GPA(i));
		snprintf(irq, sizeof(irq), "%u", BOOT_DEVICE_LINE(i));
		at = strstr(cmdline(), gpa);
		assert_non_null(at);
		assert_memory_equal(at + strlen(gpa), irq, strlen(irq));
		assert_true(memory_has(LAYOUT_ACPI, 0x1000, "LNRO0005", 8));
	}
	assert_null(strstr(cmdline(), "@0xd0004000"));
	config.drive[0].read_only = true;
	load();
	assert_non_null(strstr(cmdline(), "root=/dev/vda ro"));
	config.append = (char *)(uintptr_t) "of=the user";
	load();
	assert_non_null(strstr(cmdline(), "of=the user"));
	config.append = NULL;
	config.cmdline = (char *)(uintptr_t) "all=mine";
	load();
	assert_memory_equal(cmdline(), "all=mine", 8);
	assert_null(strstr(cmdline(), "root="));
	assert_non_null(strstr(cmdline(), "@0xd0000000:5"));
}

/* MP table and ACPI describe the serial port, the power registers, and two devices, by the numbers that those have. */
static void test_tables(void **state)
{
	const struct loader_device device[] = { { 0xd0000000, 0x1000, 5 }, { 0xd0001000, 0x1000, 6 } };
	const struct acpi_in acpi = {
		.cpus = 3,
		.serial_port = 0x3f8,
		.serial_irq = 4,
		.generation_gpa = LAYOUT_VM_ID,
		.generation_irq = 3,
		.sleep_control_port = 0x600,
		.sleep_status_port = 0x601,
		.reset_port = 0x602,
		.reset_value = 1,
		.s5 = 5,
		.devices = device,
		.num_devices = 2,
	};
	uint8_t irq_of_pin[7] = { 0xff, 0xff, 0xff, 0xff, 4, 5, 6 };
	struct mem want = { 0 };

	(void)state;
	config.cpus = 3;
	config.num_drives = 2;
	load();
	assert_int_equal(mem_init(&want, RAM, &err), 0);
	assert_int_equal(acpi_write(&want, &acpi, &err), 0);
	assert_memory_equal(mem_at(&ram, LAYOUT_ACPI, LAYOUT_VM_ID - LAYOUT_ACPI),
			    mem_at(&want, LAYOUT_ACPI, LAYOUT_VM_ID - LAYOUT_ACPI), LAYOUT_VM_ID - LAYOUT_ACPI);
	assert_memory_equal(mem_at(&ram, LAYOUT_BIOS_ENTRY, 16), mem_at(&want, LAYOUT_BIOS_ENTRY, 16), 16);
	assert_int_equal(mptable_write(&want, 3, irq_of_pin, sizeof(irq_of_pin), &err), 0);
	assert_memory_equal(mem_at(&ram, 0, LAYOUT_GDT), mem_at(&want, 0, LAYOUT_GDT), LAYOUT_GDT);
	mem_done(&want);
}

/* An initrd of the user's finds its own root; mayfly's init is in one of ours, which is added to that. */
static void test_initrd(void **state)
{
	char name[64];
	int fd = memfd_create("initrd", MFD_CLOEXEC);
	char *args[] = { (char *)(uintptr_t) "true" };
	uint32_t size;

	(void)state;
	assert_int_equal(write(fd, "070701 an initrd", 16), 16);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	config.num_drives = 1;
	config.initrd = name;
	load();
	assert_null(strstr(cmdline(), "root="));
	assert_null(strstr(cmdline(), "rdinit="));
	assert_int_equal(zero_page()->hdr.ramdisk_size, 16);
	assert_memory_equal(mem_at(&ram, zero_page()->hdr.ramdisk_image, 16), "070701 an initrd", 16);
	config.command.args = (struct config_list){ .text = args, .num = 1 };
	load();
	assert_null(strstr(cmdline(), "root="));
	assert_non_null(strstr(cmdline(), "rdinit="));
	size = zero_page()->hdr.ramdisk_size;
	assert_true(size > 1000);
	assert_true(memory_has(zero_page()->hdr.ramdisk_image, size, "an initrd", 9));
	assert_true(memory_has(zero_page()->hdr.ramdisk_image, size, "TRAILER!!!", 10));
	config.initrd = NULL;
	load();
	assert_true(zero_page()->hdr.ramdisk_size > 1000);
	assert_false(memory_has(zero_page()->hdr.ramdisk_image, zero_page()->hdr.ramdisk_size, "an initrd", 9));
	close(fd);
}

static void test_entries(void **state)
{
	(void)state;
	config.entry = CONFIG_ENTRY_PVH;
	load();
	assert_false(regs.long_mode);
	assert_int_equal(regs.rip, TEXT + 0x40);
	assert_int_equal(regs.rbx, LAYOUT_PVH_INFO);
	config.entry = CONFIG_ENTRY_LINUX64;
	load();
	assert_true(regs.long_mode);
	assert_int_equal(regs.rip, TEXT + 0x123);
}

/* The guest's random numbers are ours, or none: never half of them. */
static void test_seed(void **state)
{
	uint8_t seed[BOOT_SEED_SIZE];

	(void)state;
	memset(seed, 0x5e, sizeof(seed));
	load();
	assert_true(memory_has(LAYOUT_SETUP_DATA, 0x600, seed, sizeof(seed)));
	assert_int_not_equal(zero_page()->hdr.setup_data, 0);
	has_random = false;
	load();
	assert_false(memory_has(LAYOUT_SETUP_DATA, 0x600, seed, 4));
}

/* The VM's id is random from the start. A restore without random numbers fails: it would have the id of the snapshot. */
static void test_vm_id(void **state)
{
	uint8_t id[LAYOUT_VM_ID_SIZE];

	(void)state;
	memset(id, 0x5e, sizeof(id));
	load();
	assert_memory_equal(mem_at(&ram, LAYOUT_VM_ID, sizeof(id)), id, sizeof(id));
	memset(mem_at(&ram, LAYOUT_VM_ID, sizeof(id)), 0, sizeof(id));
	assert_int_equal(boot_write_vm_id(&ram, &err), 0);
	assert_memory_equal(mem_at(&ram, LAYOUT_VM_ID, sizeof(id)), id, sizeof(id));
	has_random = false;
	errno = EAGAIN;
	assert_int_equal(boot_write_vm_id(&ram, &err), -EAGAIN);
}

/* A kernel of the project finds the words of the windows that the devices have. */
static void test_windows(void **state)
{
	const uint64_t first = BOOT_DEVICE_GPA(0);
	const uint32_t size_and_num[] = { MMIO_WINDOW_SIZE, 3 };

	(void)state;
	config.num_drives = 2;
	config.num_nets = 1;
	load();
	assert_true(memory_has(LAYOUT_SETUP_MAYFLY, 0x100, &first, sizeof(first)));
	assert_true(memory_has(LAYOUT_SETUP_MAYFLY, 0x100, size_and_num, sizeof(size_and_num)));
}

static void test_refused(void **state)
{
	char *args[] = { (char *)(uintptr_t) "true" };
	char line[CONFIG_CMDLINE_MAX + 1];

	(void)state;
	config.kernel = (char *)(uintptr_t) "/nowhere";
	mem_done(&ram);
	assert_int_equal(boot_load(&regs, &ram, &config, &timeline, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nowhere"));
	mem_done(&ram);
	config.kernel = path;
	config.initrd = (char *)(uintptr_t) "/missing";
	assert_int_equal(boot_load(&regs, &ram, &config, &timeline, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/missing"));
	mem_done(&ram);
	config.initrd = NULL;
	/* Devices and rdinit come on top of what is the user's. */
	memset(line, 'x', sizeof(line) - 1);
	line[sizeof(line) - 1] = '\0';
	config.append = line;
	config.command.args = (struct config_list){ .text = args, .num = 1 };
	assert_int_equal(boot_load(&regs, &ram, &config, &timeline, &err), -E2BIG);
	mem_done(&ram);
	config.append = NULL;
	config.mem = 1ULL << 62;
	assert_true(boot_load(&regs, &ram, &config, &timeline, &err) < 0);
	assert_false(timeline.mark[TIMELINE_KERNEL].set);
	assert_int_equal(regs.cs, 0xeeee); /* untouched */
}

static int boot_teardown(void **state)
{
	config = (struct config){ 0 };
	return teardown(state);
}

int main(void)
{
#define ONE(test) cmocka_unit_test_setup_teardown(test, boot_setup, boot_teardown)
	const struct CMUnitTest tests[] = {
		ONE(test_plain), ONE(test_devices), ONE(test_tables),  ONE(test_initrd),  ONE(test_entries),
		ONE(test_seed),	 ONE(test_vm_id),   ONE(test_windows), ONE(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
