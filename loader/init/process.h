/* A command's process, from fork() to exec. */
#ifndef MF_INIT_PROCESS_H
#define MF_INIT_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define PROCESS_NOT_FOUND 127
#define PROCESS_NOT_RUN 126
#define PROCESS_NOT_COPIED 1

struct process {
	const char *list; /* of proto.h */
	size_t len;
	int fds[3]; /* its standard input, output and errors */
	int report; /* closed by exec; on an error it gets a byte, the exit status, and a sentence */
	bool tty;   /* fds are a pseudo terminal, which becomes its controlling terminal */
};

/* In the child: never returns. */
void process_run(const struct process *process) __attribute__((noreturn));

#endif
