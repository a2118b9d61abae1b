/*
 * A process that a run leaves behind, which works for later runs: it is not the run's child, and in neither its session nor its
 * jail or control group, and it closes all files of the run.
 */
#ifndef MF_TEMPLATE_BACKGROUND_H
#define MF_TEMPLATE_BACKGROUND_H

#include <stdbool.h>

struct config_template_link;

#define BACKGROUND_FD 3 /* in that process: the one file of the run that it keeps, and nothing behind it */

/* Zeroed memory that it shares with the run, or NULL: there is none. */
struct config_template_link *background_link(void);

/*
 * Starts it, which calls work(ctx) and ends when that returns. What ctx points to is copied. Before there is another thread, a
 * jail or a control group.
 */
void background_start(void (*work)(void *ctx), void *ctx);

/*
 * In that process: leaves all that is the run's, but for the file fd and the environment, which is to be cleared when it
 * has been read (jailer/privileges.h). Returns whether it could.
 */
bool background_leave(int fd);

/* In that process: it works when nobody else wants the CPU. */
void background_yield(void);

#endif
