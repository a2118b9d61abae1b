/*
 * The line on stderr that says why a command failed or how its guest ended. Any thread,
 * but not signal handlers.
 */
#ifndef MF_BASE_REPORT_H
#define MF_BASE_REPORT_H

struct err;

/*
 * Prints "mayfly: ", the text and a line feed. Characters that a terminal would interpret
 * are replaced.
 */
void report_line(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Prints e the same way. Returns STATUS_FAILED. */
int report_err(const struct err *e);

#endif
