/* Lines of the log from threads that may not write it: they wait in memory for the main thread. */
#ifndef MF_PROCESS_LOG_RELAY_H
#define MF_PROCESS_LOG_RELAY_H

/* Before threads are made. wake_fd: an eventfd (not owned), signalled when there is a line. */
void log_relay_init(int wake_fd);

/* The calling thread's lines go this way from here on. */
void log_relay_use(void);

/* Writes what has come. Main thread. */
void log_relay_flush(void);

#endif
