/*
 * Errors of the set-up path: a negative errno and a sentence. The innermost function
 * writes the sentence. Callers that know more put their context in front with err_wrap.
 * The caller at the top prints it once (report_err):
 *
 *	drive 'root': open '/img': No such file or directory
 */
#ifndef MF_BASE_ERR_H
#define MF_BASE_ERR_H

#define ERR_TEXT_MAX 1024

struct err {
	int code; /* negative errno, 0 when unset */
	char text[ERR_TEXT_MAX];
};

/* Sets code (a negative errno) and text. Returns code. The text is cut at ERR_TEXT_MAX. */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The same with code = -errno and ": " strerror(errno) appended. */
int err_sys(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The same for a call that returned a negative errno. */
int err_neg(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "context: " before the text. Returns e->code. */
int err_wrap(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
