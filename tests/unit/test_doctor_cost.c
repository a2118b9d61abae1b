/* Checks of `mayfly doctor`: what makes starts dearer, on hosts that do not exist. */
#include "tests/unit/doctor_fixture.h"

#define OLD "6.1.0-40-amd64"
#define CONFIG "/boot/config-6.12.4-amd64"

/* Another kernel, with its configuration. */
static void boot_kernel(const char *release, const char *config)
{
	char path[128];

	put("/proc/sys/kernel/osrelease", release);
	snprintf(path, sizeof(path), "/boot/config-%s", release);
	put(path, config);
}

static void test_clearing(void **state)
{
	(void)state;
	expect("clearing", DOCTOR_OK, "once", "");
	boot_kernel(OLD, "CONFIG_INIT_ON_ALLOC_DEFAULT_ON=y\n");
	expect("clearing", DOCTOR_WARN, "init_on_alloc=1", "init_on_alloc=0");
	put("/proc/cmdline", "init_on_alloc=1 quiet init_on_alloc=off\n"); /* the last one counts */
	expect("clearing", DOCTOR_OK, "once", "");
	put("/proc/cmdline", "quiet init_on_free=y\n");
	expect("clearing", DOCTOR_WARN, "init_on_free=1", "init_on_free=0");
	put("/proc/cmdline", "no_init_on_free=y init_on_free=maybe\n");
	expect("clearing", DOCTOR_WARN, "init_on_alloc=1", "6.13");
	boot_kernel(OLD, "# CONFIG_INIT_ON_ALLOC_DEFAULT_ON is not set\nCONFIG_INIT_ON_ALLOC_DEFAULT_ONCE=y\n");
	expect("clearing", DOCTOR_OK, "once", "");
	boot_kernel(OLD, "CONFIG_INIT_ON_FREE_DEFAULT_ON=y\n");
	expect("clearing", DOCTOR_WARN, "init_on_free=1", "init_on_free=0");
	boot_kernel("6.13.0", "CONFIG_INIT_ON_ALLOC_DEFAULT_ON=y\n");
	expect("clearing", DOCTOR_OK, "init_on_alloc=1", "");
	boot_kernel("6.12.0", "CONFIG_INIT_ON_ALLOC_DEFAULT_ON=y\n");
	expect("clearing", DOCTOR_WARN, "init_on_alloc=1", "6.13");
	boot_kernel("7.0.0", "CONFIG_INIT_ON_ALLOC_DEFAULT_ON=y\n");
	expect("clearing", DOCTOR_OK, "init_on_alloc=1", "");
}

/* In a container there is no /boot, or another system's. */
static void test_unknown_kernel(void **state)
{
	(void)state;
	drop(CONFIG);
	expect("clearing", DOCTOR_OK, "not known", "");
	expect("debugging", DOCTOR_OK, "not known", "");
	expect("hz", DOCTOR_OK, "not known", "");
	put("/proc/cmdline", "init_on_free=1");
	expect("clearing", DOCTOR_WARN, "init_on_free=1", "init_on_free=0");
	put("/proc/sys/kernel/osrelease", "../../etc/passwd\n");
	put("/etc/passwd", "CONFIG_HZ=100\n");
	expect("hz", DOCTOR_OK, "not known", "");
}

static void test_debugging(void **state)
{
	(void)state;
	expect("debugging", DOCTOR_OK, "not for debugging", "");
	put("/proc/cmdline", "page_poison=1 debug_pagealloc=off\n");
	expect("debugging", DOCTOR_WARN, "page_poison", "page_poison=");
	put("/proc/cmdline", "debug_pagealloc=on\n");
	expect("debugging", DOCTOR_WARN, "debug_pagealloc", "debug_pagealloc=");
	put(CONFIG, "CONFIG_HZ=250\nCONFIG_KASAN=y\n");
	expect("debugging", DOCTOR_WARN, "CONFIG_KASAN", "not for debugging");
}

static void test_hz(void **state)
{
	(void)state;
	expect("hz", DOCTOR_OK, "250", "");
	put(CONFIG, "CONFIG_HZ_100=y\nCONFIG_HZ=100\n");
	expect("hz", DOCTOR_WARN, "CONFIG_HZ=100", "CONFIG_HZ=250");
	put(CONFIG, "CONFIG_HZ=1000"); /* no end of line */
	expect("hz", DOCTOR_OK, "1000", "");
}

static void test_group_moves(void **state)
{
	(void)state;
	expect("group_moves", DOCTOR_OK, "no control group", "");
	put("/sys/module/kvm/parameters/nx_huge_pages", "N\n"); /* has the thread, but for "never" */
	expect("group_moves", DOCTOR_WARN, "moves it", "favordynmods");
	put("/proc/self/mounts",
	    "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate,favordynmods 0 0\n");
	expect("group_moves", DOCTOR_OK, "no control group", "");
	put("/proc/self/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n");
	expect("group_moves", DOCTOR_WARN, "moves it", "nx_huge_pages=never");
	put("/proc/sys/kernel/osrelease", "6.13.1\n");
	expect("group_moves", DOCTOR_OK, "no control group", "");
	put("/proc/sys/kernel/osrelease", "5.15.0\n");
	expect("group_moves", DOCTOR_OK, "no control group", "");
	put("/proc/sys/kernel/osrelease", "6.0.0\n");
	expect("group_moves", DOCTOR_WARN, "moves it", "favordynmods");
	drop("/sys/module/kvm/parameters/nx_huge_pages"); /* no KVM, or one without the thread */
	expect("group_moves", DOCTOR_OK, "no control group", "");
}

static void test_clocksource(void **state)
{
	static const char path[] = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

	(void)state;
	expect("clocksource", DOCTOR_OK, "tsc", "");
	put(path, "kvm-clock\n");
	expect("clocksource", DOCTOR_OK, "kvm-clock", "");
	put(path, "hpet\n");
	expect("clocksource", DOCTOR_WARN, "hpet", "tsc=reliable");
	put(path, "acpi_pm\n");
	expect("clocksource", DOCTOR_WARN, "acpi_pm", "tsc=reliable");
	put(path, "\n");
	expect("clocksource", DOCTOR_OK, "not known", "");
}

int main(void)
{
#define ONE(test) cmocka_unit_test_setup(test, setup)
	const struct CMUnitTest tests[] = {
		ONE(test_clearing), ONE(test_unknown_kernel), ONE(test_debugging),
		ONE(test_hz),	    ONE(test_group_moves),    ONE(test_clocksource),
	};

	return cmocka_run_group_tests(tests, make_root, drop_root);
}
