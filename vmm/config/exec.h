/* A command that a client of Firecracker's API has in a guest: between vmm/api, and the client of the guest's init (vmm/guest). */
#ifndef MF_CONFIG_EXEC_H
#define MF_CONFIG_EXEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct config_command;

#define EXEC_AT_ONCE 8			  /* that are not over yet */
#define EXEC_TIMEOUT_MAX_MS (3600 * 1000) /* an hour */
#define EXEC_OUTPUT_MAX 32768		  /* bytes of stdout, and of stderr; a stream that has more is closed */

struct exec_request {
	const struct config_command *command; /* NULL: nothing runs, it is over when the guest takes commands */
	const char *input;		      /* stdin; or NULL */
	uint64_t timeout_ms;		      /* then it is killed */
};

struct exec_result {
	bool command;	 /* there was one */
	bool timed_out;	 /* so status is of no account */
	unsigned status; /* as a shell has it; 126 or 127: it could not be started */
	bool signalled, oom;
	char text[512]; /* why it could not be started, printable; or "" */
	struct exec_output {
		size_t len;
		bool cut;			/* there was more */
		char data[EXEC_OUTPUT_MAX + 1]; /* of the guest: any bytes */
	} output[2];				/* stdout, stderr */
};

#endif
