/*
 * The commands that run: each is a process group of its own, with its streams to the
 * host.
 *
 * Reports about them go to the host by control.h. The exception is the end of the first
 * command, number 0, which ends the machine: command_first() returns it.
 */
#ifndef MF_INIT_COMMAND_H
#define MF_INIT_COMMAND_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "loader/init/proto.h"
#include "loader/init/pump.h"
#include "loader/init/text.h"

#define COMMAND_STREAMS 3
/* For each command: the pipe on which its process reports errors, and the streams. */
#define COMMAND_POLLS (1 + COMMAND_STREAMS * PUMP_POLLS)
#define COMMAND_POLLS_MAX (INIT_COMMANDS_MAX * COMMAND_POLLS)

/* How a command ended. */
struct command_end {
	uint32_t status; /* as INIT_MSG_EXIT has it */
	uint32_t flags;
	struct text why; /* empty, if it ran */
};

/* Starts a command: len bytes of a list (see proto.h). An error ends the command. */
void command_start(uint32_t number, const char *list, size_t len);
/* The same on the machine's console. */
void command_start_on_console(const char *list, size_t len);
/* Number 0 goes on with another number, so that the host can run another number 0. */
void command_retire(void);
/* Connects all streams again, and reports again which commands run: the host is another one. */
void command_reconnect(void);
/* Sends a signal to its process group, or to its process alone. */
void command_signal(uint32_t number, int signal, bool alone);
/* Sets the size of its terminal: rows << 16 | columns. */
void command_resize(uint32_t number, uint32_t size);
/*
 * Returns number 0's end, once, when it has ended and its streams are closed; otherwise
 * NULL.
 */
const struct command_end *command_first(void);
/* Another number 0 may follow. */
void command_forget_first(void);
/* How many there are. */
unsigned command_count(void);

/* Fills in the entries for poll(), COMMAND_POLLS_MAX at most; returns how many. */
size_t command_polls(struct pollfd *polls);
/* A stream has failed. It is closed in the next turn, unless command_reconnect() comes before. */
bool command_has_failed(void);
/*
 * Handles the results of poll(). No command may be started or reaped between
 * command_polls() and this call.
 */
void command_turn(const struct pollfd *polls);
/* A child process has ended, with a status of waitpid(). */
void command_reaped(pid_t pid, int status);

#endif
