/* The log; see log.h. */
#include "vmm/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/util.h"

static struct {
	enum log_level level;
	int fd;
} log_state = { .level = LOG_LEVEL_WARN, .fd = STDERR_FILENO };

static const char *const level_names[] = {
	[LOG_LEVEL_ERROR] = "error",
	[LOG_LEVEL_WARN] = "warn",
	[LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_DEBUG] = "debug",
};

void log_setup(enum log_level level, int fd)
{
	log_state.level = level;
	if (fd >= 0)
		log_state.fd = fd;
}

bool log_level_parse(const char *word, enum log_level *ret)
{
	for (size_t i = 0; i < MF_ARRAY_SIZE(level_names); i++) {
		if (!strcmp(word, level_names[i])) {
			*ret = (enum log_level)i;
			return true;
		}
	}
	return false;
}

const char *log_level_name(enum log_level level)
{
	return level_names[level];
}

bool log_enabled(enum log_level level)
{
	return level <= log_state.level;
}

void log_write(enum log_level level, const char *module, const char *fmt, ...)
{
	char line[LOG_LINE_MAX], thread[17] = "";
	struct timespec now;
	struct tm tm;
	va_list ap;
	int n, m;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	prctl(PR_GET_NAME, thread);
	n = snprintf(line, sizeof(line), "%04d-%02d-%02dT%02d:%02d:%02d.%06ldZ %s [%s] %s: ", tm.tm_year + 1900,
		     tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, now.tv_nsec / 1000,
		     level_names[level], thread, module);
	va_start(ap, fmt);
	m = vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
	va_end(ap);
	if (m > 0)
		n += MF_MIN(m, (int)sizeof(line) - n - 2);
	line[n++] = '\n';
	/* A log line that cannot be written has nowhere else to go. */
	if (write(log_state.fd, line, (size_t)n) < 0)
		return;
}
