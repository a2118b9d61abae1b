/* The parts of the lab's PID 1 for each other; labinit.c tells how it works. */
#ifndef MF_LAB_LABINIT_H
#define MF_LAB_LABINIT_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#define LINE_MAX_BYTES 512

enum input { INPUT_NONE, INPUT_STREAM, INPUT_TERMINAL };

/* What the host asked for; see labinit.c. */
struct job {
	struct timespec now;
	unsigned input;
	unsigned short rows, columns;
	unsigned dirs, vars, args;
	char *cwd;
	char **dir, **var, **arg; /* each list ends with a NULL */
};

/* labctl.c. The first three may be used before ctl_open(); then only the console hears them. */

/* Tells the host (and with it, the user) and the console. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The lab is of no use: says why, with errno, and ends the machine. */
void fail(const char *what) __attribute__((noreturn));
void power_off(void) __attribute__((noreturn));
/* The device of the virtio-serial port of that name, as soon as its driver knows it. */
int port_open(const char *name);
void ctl_open(void);
/* For poll(). */
int ctl_fd(void);
/* The next line from the host without its end, waiting for it; true if there is more to read already. */
bool ctl_line(char *line, size_t size);
/* Waits for the host to say what to do. Nothing of it is ever freed: it is in use to the end. */
void ctl_job(struct job *ret);

/* labrun.c: runs the command and reports its end, which is the end of the machine. */
void run_job(const struct job *job, int std_port, int err_port) __attribute__((noreturn));

#endif
