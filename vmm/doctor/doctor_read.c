/* What the checks of `mayfly doctor` share: reading the host's files, and writing a finding. See doctor_parts.h. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/fdio.h"
#include "vmm/base/printable.h"
#include "vmm/base/util.h"
#include "vmm/doctor/doctor_parts.h"

static void __attribute__((format(printf, 2, 0))) put_text(char to[DOCTOR_TEXT_MAX], const char *fmt, va_list args)
{
	vsnprintf(to, DOCTOR_TEXT_MAX, fmt, args); /* what does not fit is cut */
	printable_line(to);
}

void doctor_advise(struct doctor_finding *f, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	put_text(f->fix, fmt, args);
	va_end(args);
}

void doctor_found(struct doctor_finding *f, enum doctor_level level, const char *fix, const char *fmt, ...)
{
	va_list args;

	f->level = level;
	doctor_advise(f, "%s", fix);
	va_start(args, fmt);
	put_text(f->text, fmt, args);
	va_end(args);
}

int doctor_open(const struct doctor_host *h, const char *path, int flags)
{
	char whole[PATH_MAX];
	int len = snprintf(whole, sizeof(whole), "%s%s", h->root, path), fd;

	if (len < 0 || (size_t)len >= sizeof(whole))
		return -ENAMETOOLONG;
	fd = open(whole, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

bool doctor_read_text(const struct doctor_host *h, const char *path, char *text, size_t size)
{
	MF_CLOSE int fd = doctor_open(h, path, O_RDONLY);
	ssize_t len = fd < 0 ? fd : fdio_pread(fd, text, size - 1, 0);

	text[len > 0 ? len : 0] = '\0';
	return len >= 0;
}

bool doctor_read_line(const struct doctor_host *h, const char *path, char line[DOCTOR_LINE_MAX])
{
	bool there = doctor_read_text(h, path, line, DOCTOR_LINE_MAX);
	size_t len = strcspn(line, "\n");

	while (len > 0 && line[len - 1] == ' ')
		len--;
	line[len] = '\0';
	return there;
}

bool doctor_shows(const struct doctor_host *h, struct doctor_finding *f, const char *dir)
{
	MF_CLOSE int fd = doctor_open(h, dir, O_RDONLY | O_DIRECTORY);

	if (fd >= 0)
		return true;
	doctor_warn(f, "", "not known: %s: %s", dir, strerror(-fd));
	doctor_advise(f, "mount %.*s, or ask outside of this container", (int)strcspn(dir + 1, "/") + 1, dir);
	return false;
}

bool doctor_has_word(const char *text, const char *word, const char *end)
{
	size_t len = strlen(word), stop = strcspn(text, end);

	for (const char *p = text; (p = strstr(p, word)) && p < text + stop; p += len) {
		if ((p == text || isspace((unsigned char)p[-1])) && (!p[len] || isspace((unsigned char)p[len])))
			return true;
	}
	return false;
}

const char *doctor_value_of(const char *text, const char *key)
{
	size_t len = strlen(key);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, key, len) != 0)
			continue;
		line += len + strspn(line + len, " \t");
		if (*line == ':')
			return line + 1 + strspn(line + 1, " \t");
	}
	return "";
}

bool doctor_cpu_has(const char *cpuinfo, const char *flag)
{
	return doctor_has_word(doctor_value_of(cpuinfo, "flags"), flag, "\n") ||
	       doctor_has_word(doctor_value_of(cpuinfo, "vmx flags"), flag, "\n");
}
