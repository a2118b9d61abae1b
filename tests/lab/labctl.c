/* The lab's talk with its host, through virtio-serial ports; see labinit.c. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "tests/lab/labinit.h"

#define DEBUG_EXIT_PORT 0x501 /* QEMU's isa-debug-exit: a write ends the machine at once */

static int ctl = -1;

void say(const char *format, ...)
{
	char text[LINE_MAX_BYTES];
	va_list ap;

	va_start(ap, format);
	int len = vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	if (len >= (int)sizeof(text))
		len = sizeof(text) - 1;
	int console = open("/dev/console", O_WRONLY | O_NOCTTY | O_CLOEXEC);
	/* There is nobody left to tell about a failure to tell. */
	if (ctl >= 0)
		(void)!write(ctl, text, len);
	if (console >= 0) {
		(void)!write(console, text, len);
		(void)close(console);
	}
}

void power_off(void)
{
	outb(0, DEBUG_EXIT_PORT);
	(void)reboot(RB_POWER_OFF); /* not reached under QEMU */
	for (;;)
		(void)pause();
}

void fail(const char *what)
{
	say("lab: %s: %s\n", what, strerror(errno));
	(void)usleep(300000); /* until the host has taken it; see labinit.c on BYE */
	power_off();
}

int port_open(const char *name)
{
	char path[128], found[64];

	for (int tries = 0; tries < 2000; tries++) {
		for (int i = 1; i < 8; i++) {
			(void)snprintf(path, sizeof(path), "/sys/class/virtio-ports/vport0p%d/name", i);
			FILE *file = fopen(path, "re");
			if (!file)
				continue;
			bool same = fgets(found, sizeof(found), file) && !strcmp(strtok(found, "\n"), name);
			(void)fclose(file);
			(void)snprintf(path, sizeof(path), "/dev/vport0p%d", i);
			int fd = same ? open(path, O_RDWR | O_CLOEXEC) : -1;
			if (fd >= 0)
				return fd;
		}
		(void)usleep(1000);
	}
	errno = ENODEV;
	fail(name);
}

void ctl_open(void)
{
	ctl = port_open("ctl");
}

int ctl_fd(void)
{
	return ctl;
}

/* The next byte from the host, waiting for it. */
static char ctl_byte(bool *ret_more)
{
	static char data[4096];
	static ssize_t at, len;

	while (at >= len) {
		at = 0;
		len = read(ctl, data, sizeof(data));
		if (len <= 0)
			(void)usleep(1000); /* after a restore the port has no host end for a moment */
	}
	char byte = data[at++];
	*ret_more = at < len;
	return byte;
}

bool ctl_line(char *line, size_t size)
{
	bool more;
	size_t n = 0;

	for (char byte; (byte = ctl_byte(&more)) != '\n';)
		if (n < size - 1)
			line[n++] = byte;
	line[n] = '\0';
	return more;
}

/* The next `count` NUL-ended strings from the host, as a list that ends with a NULL. */
static char **ctl_strings(unsigned count)
{
	char **list = calloc(count + 1, sizeof(*list));
	size_t size = 4096, len = 0;
	char *data = malloc(size);
	bool more;

	for (unsigned i = 0; list && data && i < count;) {
		data[len++] = ctl_byte(&more);
		if (data[len - 1] == '\0') {
			list[i++] = strdup(data);
			len = 0;
		}
		if (len == size)
			data = realloc(data, size *= 2);
	}
	if (!list || !data)
		fail("memory");
	free(data);
	return list;
}

void ctl_job(struct job *ret)
{
	char line[LINE_MAX_BYTES];

	(void)ctl_line(line, sizeof(line));
	int n = sscanf(line, "GO %ld %ld %u %hu %hu %u %u %u", &ret->now.tv_sec, &ret->now.tv_nsec, &ret->input,
		       &ret->rows, &ret->columns, &ret->dirs, &ret->vars, &ret->args);
	errno = EPROTO;
	if (n != 8 || !ret->args)
		fail(line);
	ret->cwd = ctl_strings(1)[0];
	ret->dir = ctl_strings(ret->dirs);
	ret->var = ctl_strings(ret->vars);
	ret->arg = ctl_strings(ret->args);
}
