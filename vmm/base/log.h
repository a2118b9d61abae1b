/*
 * The log: one line for each event, "time level thread file: text", to stderr or a
 * file; the file in it is the source, without its ending.
 *
 * log_error: the user's request failed or the VM will end. log_warn: odd, continuing.
 * log_info: rare state changes. log_debug: for developers. Control characters become '?'.
 * Text from the guest is made ASCII first (printable.h). An event that a guest can cause
 * at will is logged once for each device.
 *
 * Any thread may log. A line is one write(2), cut at LOG_LINE_MAX. Logging never
 * allocates and never fails the caller. On a full disk the line is lost. If fd is
 * non-blocking and its reader too slow, the lost line is counted.
 */
#ifndef MF_BASE_LOG_H
#define MF_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>

#define LOG_LINE_MAX 1200

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/*
 * Sets what is logged and to which fd (not owned; -1 keeps the present one). Call before
 * threads start.
 */
void log_setup(enum log_level level, int fd);

/*
 * Makes lines as Firecracker's: "time [ID:thread:LEVEL:file] text", without level or file unless
 * they are shown. id is kept. As log_setup.
 */
void log_use_id(const char *id, bool show_level, bool show_origin);

/* Sets the calling thread's name in its lines (kept, not copied); "main" until then. */
void log_set_thread(const char *name);
const char *log_thread(void);

/*
 * Sends the calling thread's lines, with their \n, to sink instead of the log's fd: for a
 * thread whose filter forbids write(2) there.
 */
void log_set_sink(void (*sink)(const char *line, size_t len));

/* Writes a line that a sink received. If fd accepts nothing, counts num lines as lost. */
void log_put(const char *line, size_t len, unsigned num);

/* Returns the fd of the log. */
int log_fd(void);

/*
 * Reports how many lines were lost because fd is non-blocking and was full. The next line
 * that is logged reports it, too.
 */
void log_tell_lost(void);

/* For log_at. */
void log_write(enum log_level level, const char *file, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

bool log_enabled(enum log_level level);

/* Evaluates level once: the expression may have side effects, such as counting. */
#define log_at(level, ...)                                                                                             \
	do {                                                                                                           \
		const enum log_level log_at_level = (level);                                                           \
		if (log_enabled(log_at_level))                                                                         \
			log_write(log_at_level, __FILE_NAME__, __VA_ARGS__);                                           \
	} while (0)

#define log_error(...) log_at(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_at(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_at(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
