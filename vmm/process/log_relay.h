/*
 * Log lines of threads that may not write to the log: they wait in memory for the main
 * thread.
 */
#ifndef MF_PROCESS_LOG_RELAY_H
#define MF_PROCESS_LOG_RELAY_H

/* Before threads are made. wake_fd: an eventfd (not owned), signalled when there is a line. */
void log_relay_init(int wake_fd);

/* Sends the calling thread's lines this way from here on. */
void log_relay_use(void);

/* Writes the lines that have come in. Main thread. */
void log_relay_flush(void);

#endif
