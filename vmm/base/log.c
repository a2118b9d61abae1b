/* The log; see log.h. */
#include "vmm/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/date.h"
#include "vmm/base/printable.h"
#include "vmm/base/util.h"

static struct {
	enum log_level level;
	int fd;
	atomic_uint lost; /* lines lost because the reader was too slow */
	const char *id;	  /* NULL: lines are not Firecracker's */
	bool show_level, show_origin;
} log_state = { .level = LOG_LEVEL_WARN, .fd = STDERR_FILENO };

static _Thread_local const char *thread_name = "main";
static _Thread_local void (*thread_sink)(const char *line, size_t len);

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

void log_use_id(const char *id, bool show_level, bool show_origin)
{
	log_state.id = id;
	log_state.show_level = show_level;
	log_state.show_origin = show_origin;
}

void log_set_thread(const char *name)
{
	thread_name = name;
}

const char *log_thread(void)
{
	return thread_name;
}

void log_set_sink(void (*sink)(const char *line, size_t len))
{
	thread_sink = sink;
}

int log_fd(void)
{
	return log_state.fd;
}

bool log_enabled(enum log_level level)
{
	return level <= log_state.level;
}

static int start_line_of_id(char line[LOG_LINE_MAX], enum log_level level, const char *file, const struct date *date,
			    unsigned second, long ns)
{
	static const char *const names[] = {
		[LOG_LEVEL_ERROR] = "ERROR",
		[LOG_LEVEL_WARN] = "WARN",
		[LOG_LEVEL_INFO] = "INFO",
		[LOG_LEVEL_DEBUG] = "DEBUG",
	};

	return snprintf(line, LOG_LINE_MAX, "%04d-%02u-%02uT%02u:%02u:%02u.%09ld [%s:%s%s%s%s%s] ", date->year,
			date->month, date->day, second / 3600, second / 60 % 60, second % 60, ns, log_state.id,
			thread_name, log_state.show_level ? ":" : "", log_state.show_level ? names[level] : "",
			log_state.show_origin ? ":" : "", log_state.show_origin ? file : "");
}

/* Writes the beginning of a line; returns its length. */
static int start_line(char line[LOG_LINE_MAX], enum log_level level, const char *file)
{
	struct timespec now;
	struct date date;
	unsigned second;

	clock_gettime(CLOCK_REALTIME, &now);
	date = date_of((uint32_t)(now.tv_sec / 86400));
	second = (unsigned)(now.tv_sec % 86400);
	if (log_state.id)
		return start_line_of_id(line, level, file, &date, second, now.tv_nsec);
	return snprintf(line, LOG_LINE_MAX, "%04d-%02u-%02uT%02u:%02u:%02u.%06ldZ %s [%s] %.*s: ", date.year,
			date.month, date.day, second / 3600, second / 60 % 60, second % 60, now.tv_nsec / 1000,
			level_names[level], thread_name, (int)strcspn(file, "."), file);
}

/*
 * A line that cannot be written is lost: there is nowhere else to report it. If the
 * reader is too slow, the loss is counted.
 */
void log_put(const char *line, size_t len, unsigned num)
{
	if (write(log_state.fd, line, len) < 0 && errno == EAGAIN)
		atomic_fetch_add_explicit(&log_state.lost, num, memory_order_relaxed); /* counts only */
}

void log_tell_lost(void)
{
	unsigned lost = atomic_exchange_explicit(&log_state.lost, 0, memory_order_relaxed);
	char line[LOG_LINE_MAX];
	int n;

	if (!lost)
		return;
	n = start_line(line, LOG_LEVEL_WARN, __FILE_NAME__);
	n += snprintf(line + n, sizeof(line) - (size_t)n, "%u lines lost, the reader is too slow; continuing\n", lost);
	log_put(line, (size_t)n, lost);
}

void log_write(enum log_level level, const char *file, const char *fmt, ...)
{
	char line[LOG_LINE_MAX];
	va_list ap;
	int n, m;

	if (!thread_sink)
		log_tell_lost();
	n = start_line(line, level, file);
	va_start(ap, fmt);
	m = vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
	va_end(ap);
	if (m > 0) {
		printable_line(line + n); /* quoted bytes must not break the line */
		n += MF_MIN(m, (int)sizeof(line) - n - 2);
	}
	line[n++] = '\n';
	if (thread_sink)
		thread_sink(line, (size_t)n);
	else
		log_put(line, (size_t)n, 1);
}
