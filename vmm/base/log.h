/*
 * The log: one line per event, "time level thread module: text", to stderr or a file. It is the only mutable global.
 *
 * log_error: the user's request failed or the VM will end. log_warn: odd, continuing. log_info: rare state changes.
 * log_debug: for developers. Control characters become '?'; guest-controlled text is
 * made ASCII before (printable.h), and what a guest can trigger at will is
 * logged once per device. Any thread may log: a line is one write(2), cut at LOG_LINE_MAX; it never allocates and never
 * fails the caller: on a full disk the line is lost, and if fd does not block and its reader is too slow it is counted.
 */
#ifndef MF_BASE_LOG_H
#define MF_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>

#define LOG_LINE_MAX 1200

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Sets what is logged and to which fd (not owned; -1 keeps the present one). Before threads start. */
void log_setup(enum log_level level, int fd);

/* Names of levels as the command line has them ("error", ...). Returns false for any other word. */
bool log_level_parse(const char *word, enum log_level *ret);
const char *log_level_name(enum log_level level);

/* The calling thread's name in its lines (kept); "main" until it is set. */
void log_set_thread(const char *name);
const char *log_thread(void);

/* The calling thread's lines go to sink, with their \n, and not to the log's fd: for a thread that may not write there. */
void log_set_sink(void (*sink)(const char *line, size_t len));

/* Writes a line that a sink got. If fd does not take it, it counts as num lost ones. */
void log_put(const char *line, size_t len, unsigned num);

/* The fd of the log. */
int log_fd(void);

/* Says how many lines were lost because fd does not block and was full; so does the next line that is logged. */
void log_tell_lost(void);

void log_write(enum log_level level, const char *module, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

bool log_enabled(enum log_level level);

/* level is evaluated once: who computes it may count what it says. */
#define log_at(level, ...)                                                                                             \
	do {                                                                                                           \
		const enum log_level log_at_level = (level);                                                           \
		if (log_enabled(log_at_level))                                                                         \
			log_write(log_at_level, MF_LOG_MODULE, __VA_ARGS__);                                           \
	} while (0)

/* A .c file that logs defines MF_LOG_MODULE, a string, before it includes this header. */
#define log_error(...) log_at(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_at(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_at(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
