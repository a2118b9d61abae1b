/*
 * Reads along what the guest writes to its console, to tell a panic, a reboot and a halt apart: to the hardware a panic
 * with panic=-1, a reboot and a crash look the same. Linux announces each on the console, also with `quiet`.
 *
 * It is a hint from the guest about itself: it chooses the words and the exit status of mayfly, nothing else.
 */
#ifndef MF_GUEST_CONSOLE_SCAN_H
#define MF_GUEST_CONSOLE_SCAN_H

#include <stdbool.h>
#include <stddef.h>

#define CONSOLE_SCAN_LINE_MAX 160
#define CONSOLE_SCAN_LAST 8 /* lines that are kept */

struct console_scan {
	char line[CONSOLE_SCAN_LINE_MAX]; /* the present line, as far as it fits */
	size_t len;
	bool restarting; /* "reboot: Restarting system" or "reboot: machine restart" */
	bool halted;	 /* "reboot: System halted" or "reboot: Power down" */
	bool on_console; /* mayfly's init runs the command on the console (INIT_CONSOLE_START) */
	int status;	 /* the command's, as init says there, or -1 */
	char last[CONSOLE_SCAN_LAST][CONSOLE_SCAN_LINE_MAX]; /* the last lines, in turn, printable */
	size_t lines;					     /* that there were */
	char panic[CONSOLE_SCAN_LINE_MAX]; /* what stood after "Kernel panic - not syncing: ", printable; "" when none */
};

#define CONSOLE_SCAN_INIT ((struct console_scan){ .status = -1 })

/* Takes the next bytes of console output. One thread at a time. */
void console_scan(struct console_scan *g, const void *data, size_t len);

/* The n-th of the last lines, from the oldest; NULL: there is none. */
const char *console_scan_last(const struct console_scan *g, unsigned n);

#endif
