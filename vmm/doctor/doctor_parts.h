/* What the checks of `mayfly doctor` share; see doctor.h. */
#ifndef MF_DOCTOR_DOCTOR_PARTS_H
#define MF_DOCTOR_DOCTOR_PARTS_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/doctor/doctor.h"

#define DOCTOR_FILE_MAX 16384 /* bytes that are read: more than /proc/cpuinfo has for one CPU */
#define DOCTOR_LINE_MAX 128

/* Sets the finding and its fix, one line each. With the fix "", doctor_advise may set it. */
void doctor_found(struct doctor_finding *f, enum doctor_level level, const char *fix, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void doctor_advise(struct doctor_finding *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define doctor_ok(f, ...) doctor_found(f, DOCTOR_OK, "", __VA_ARGS__)
#define doctor_warn(f, fix, ...) doctor_found(f, DOCTOR_WARN, fix, __VA_ARGS__)
#define doctor_fail(f, fix, ...) doctor_found(f, DOCTOR_FAIL, fix, __VA_ARGS__)

/* Opens a file of the host without blocking. Returns the fd or -errno. */
int doctor_open(const struct doctor_host *h, const char *path, int flags);

/* Reads a file as text, or its first line. Returns false, with the text empty, if there is none. */
bool doctor_read_text(const struct doctor_host *h, const char *path, char *text, size_t size);
bool doctor_read_line(const struct doctor_host *h, const char *path, char line[DOCTOR_LINE_MAX]);

/* Whether the host shows that directory, as some containers do not; else that is the finding. */
bool doctor_shows(const struct doctor_host *h, struct doctor_finding *f, const char *dir);

/* Whether word is one of the words of text, up to the first character of end. */
bool doctor_has_word(const char *text, const char *word, const char *end);

/* The value of the first line "key: value" in a text like /proc/cpuinfo; "" if there is none. */
const char *doctor_value_of(const char *text, const char *key);

/* Whether a text of /proc/cpuinfo has that flag. */
bool doctor_cpu_has(const char *cpuinfo, const char *flag);

/* doctor_kvm.c */
void doctor_check_kvm(const struct doctor_host *h, struct doctor_finding *f);
void doctor_check_native(const struct doctor_host *h, struct doctor_finding *f);
void doctor_check_io_uring(const struct doctor_host *h, struct doctor_finding *f);
void doctor_check_nested(const struct doctor_host *h, struct doctor_finding *f);
void doctor_check_cpu(const struct doctor_host *h, struct doctor_finding *f);

/* doctor_cost.c */
void doctor_check_clearing(const struct doctor_host *h, struct doctor_finding *f);
void doctor_check_debugging(const struct doctor_host *h, struct doctor_finding *f);
void doctor_check_hz(const struct doctor_host *h, struct doctor_finding *f);
void doctor_check_group_moves(const struct doctor_host *h, struct doctor_finding *f);
void doctor_check_clocksource(const struct doctor_host *h, struct doctor_finding *f);

/* doctor_isolation.c */
void doctor_check_nx_huge_pages(const struct doctor_host *h, struct doctor_finding *f);
void doctor_check_smt(const struct doctor_host *h, struct doctor_finding *f);
void doctor_check_mitigations(const struct doctor_host *h, struct doctor_finding *f);
void doctor_check_ksm(const struct doctor_host *h, struct doctor_finding *f);
void doctor_check_swap(const struct doctor_host *h, struct doctor_finding *f);
void doctor_check_user_namespaces(const struct doctor_host *h, struct doctor_finding *f);
void doctor_check_cgroup(const struct doctor_host *h, struct doctor_finding *f);
void doctor_check_groups(const struct doctor_host *h, struct doctor_finding *f);
void doctor_check_landlock(const struct doctor_host *h, struct doctor_finding *f);

#endif
