/* The line on stderr that says why a command failed, or how its guest ended. Any thread, but for signal handlers. */
#ifndef MF_BASE_REPORT_H
#define MF_BASE_REPORT_H

struct err;

/* Prints "mayfly: ", the text and a line feed; what a terminal would take for more than text is replaced. */
void report_line(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The same for e. Returns STATUS_FAILED. */
int report_err(const struct err *e);

#endif
