/* What the console's text says about the guest's end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "loader/init/proto.h"
#include "vmm/guest/console_scan.h"

static void scan(struct console_scan *g, const char *text)
{
	console_scan(g, text, strlen(text));
}

static void test_panic(void **state)
{
	struct console_scan g = { 0 };

	(void)state;
	scan(&g, "[    0.1] Kernel panic - not syncing: VFS: no ro");
	assert_string_equal(g.panic, "");
	scan(&g, "ot\r\n[    0.2] Kernel panic - not syncing: second\r\n");
	assert_string_equal(g.panic, "VFS: no root");
}

static void test_reboot_and_halt(void **state)
{
	struct console_scan g = { 0 };

	(void)state;
	scan(&g, "[ 1.0] reboot: Restarting system\n");
	assert_true(g.restarting);
	assert_false(g.halted);
	scan(&g, "[ 1.0] reboot: System halted\n");
	assert_true(g.halted);
}

static void test_poweroff_without_acpi(void **state)
{
	struct console_scan g = { 0 };

	(void)state;
	scan(&g, "[ 1.0] reboot: Power off not available: System halted instead\n");
	assert_true(g.halted);
}

static void test_nothing_from_an_ordinary_line(void **state)
{
	struct console_scan g = { 0 };

	(void)state;
	scan(&g, "\n\r\nKernel panic\nreboot\nnot syncing: x\nSystem halted\n");
	assert_string_equal(g.panic, "");
	assert_false(g.restarting || g.halted);
}

static void test_hostile_text(void **state)
{
	struct console_scan g = { 0 };
	char line[4096];

	(void)state;
	memset(line, 'x', sizeof(line));
	for (int i = 0; i < 100; i++)
		console_scan(&g, line, sizeof(line));
	scan(&g, "\n");
	scan(&g, "Kernel panic - not syncing: \033[31mred\a\n");
	assert_string_equal(g.panic, ".[31mred.");
	memset(&g, 0, sizeof(g));
	scan(&g, "Kernel panic - not syncing: ");
	console_scan(&g, line, sizeof(line));
	scan(&g, "\n");
	assert_true(strlen(g.panic) < CONSOLE_SCAN_LINE_MAX);
}

static void test_command_on_the_console(void **state)
{
	struct console_scan g = CONSOLE_SCAN_INIT;

	(void)state;
	scan(&g, INIT_CONSOLE_STATUS "3\r\n"); /* of somebody else */
	assert_int_equal(g.status, -1);
	scan(&g, "x " INIT_CONSOLE_START "\r\n");
	assert_false(g.on_console);
	scan(&g, INIT_CONSOLE_START "\r\n");
	assert_true(g.on_console);
	assert_int_equal(g.status, -1);
	scan(&g, "mayfly-init: status 7\r\n");
	assert_int_equal(g.status, 7);
}

static void test_last_lines(void **state)
{
	struct console_scan g = CONSOLE_SCAN_INIT;
	char line[16];

	(void)state;
	assert_null(console_scan_last(&g, 0));
	scan(&g, "one\r\n\033[2Jtwo\nnot yet a line");
	assert_string_equal(console_scan_last(&g, 0), "one");
	assert_string_equal(console_scan_last(&g, 1), ".[2Jtwo");
	assert_null(console_scan_last(&g, 2));
	for (unsigned i = 0; i < 20; i++) {
		sprintf(line, "\nline %u\n", i);
		scan(&g, line);
	}
	assert_string_equal(console_scan_last(&g, 0), "line 12");
	assert_string_equal(console_scan_last(&g, CONSOLE_SCAN_LAST - 1), "line 19");
	assert_null(console_scan_last(&g, CONSOLE_SCAN_LAST));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_panic),
		cmocka_unit_test(test_last_lines),
		cmocka_unit_test(test_command_on_the_console),
		cmocka_unit_test(test_reboot_and_halt),
		cmocka_unit_test(test_poweroff_without_acpi),
		cmocka_unit_test(test_nothing_from_an_ordinary_line),
		cmocka_unit_test(test_hostile_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
