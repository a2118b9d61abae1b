/* The line on stderr; see report.h. */
#include "vmm/base/report.h"

#include <stdarg.h>
#include <stdio.h>

#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/printable.h"
#include "vmm/base/result.h"

void report_line(const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	printable_line(text); /* a file name or value in it may have any bytes */
	fprintf(stderr, "mayfly: %s\n", text);
	result_say(text);
}

int report_err(const struct err *e)
{
	report_line("%s", e->text);
	return STATUS_FAILED;
}
