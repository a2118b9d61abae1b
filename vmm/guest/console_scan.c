/* Reads along what the guest writes to its console; see console_scan.h. */
#include "vmm/guest/console_scan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loader/init/proto.h"
#include "vmm/base/printable.h"

static void take_line(struct console_scan *g)
{
	static const char panic[] = "Kernel panic - not syncing: ";
	const char *at;

	g->line[g->len] = '\0';
	memcpy(g->last[g->lines++ % CONSOLE_SCAN_LAST], g->line, g->len + 1);
	at = strstr(g->line, panic);
	if (at && !g->panic[0])
		snprintf(g->panic, sizeof(g->panic), "%s", at + strlen(panic));
	if (strstr(g->line, "reboot: Restarting system") || strstr(g->line, "reboot: machine restart"))
		g->restarting = true;
	/* Without a way to power off, Linux halts: "reboot: Power off not available: System halted instead" */
	at = strstr(g->line, "reboot: ");
	if (at && (strstr(at, "System halted") || strstr(at, "Power down")))
		g->halted = true;
	if (!strcmp(g->line, INIT_CONSOLE_START))
		g->on_console = true;
	if (g->on_console && !strncmp(g->line, INIT_CONSOLE_STATUS, sizeof(INIT_CONSOLE_STATUS) - 1))
		g->status = atoi(g->line + sizeof(INIT_CONSOLE_STATUS) - 1) & 0xff;
}

void console_scan(struct console_scan *g, const void *data, size_t len)
{
	const unsigned char *byte = data;

	for (size_t i = 0; i < len; i++) {
		if (byte[i] == '\n' || byte[i] == '\r') {
			if (g->len)
				take_line(g);
			g->len = 0;
		} else if (g->len < sizeof(g->line) - 1) {
			/* The line may be shown to the user: no control characters from a guest. */
			g->line[g->len++] = printable_guest_byte((char)byte[i]);
		}
	}
}

const char *console_scan_last(const struct console_scan *g, unsigned n)
{
	size_t first = g->lines > CONSOLE_SCAN_LAST ? g->lines - CONSOLE_SCAN_LAST : 0;

	return first + n < g->lines ? g->last[(first + n) % CONSOLE_SCAN_LAST] : NULL;
}
