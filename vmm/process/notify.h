/*
 * What systemd learns of a service of Type=notify (sd_notify(3)): that it is ready, that it
 * stops, and one line of status. Only the process that the user started reports, so that
 * the sender is the service's main process; in a jail that is the process outside.
 */
#ifndef MF_PROCESS_NOTIFY_H
#define MF_PROCESS_NOTIFY_H

/*
 * Connects to $NOTIFY_SOCKET, a path or an abstract name ("@NAME"), and removes the
 * variable from the environment, since programs that mayfly starts have nothing to report.
 * A socket that cannot be reached is a warning. Main thread, before its filter.
 */
void notify_open(void);

/* The descriptor, for filters; or -1. */
int notify_fd(void);

/* In a process that has nothing to report: what follows does nothing. */
void notify_leave(void);

/* "The service is ready", "it is stopping": each once. And what it does, in a few words. Main thread. */
void notify_ready(void);
void notify_stopping(void);
void notify_status(const char *status);

#endif
