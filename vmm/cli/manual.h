/*
 * `mayfly manual`: the manual pages. The prose is in configs/manual; tables of the code
 * replace these lines:
 *
 *	a line @commands@	the commands of cli_commands and their options
 *	a line @keys NAME@	the keys of an object of the configuration; without NAME, of the whole
 *	@version@ in a line	the version
 */
#ifndef MF_CLI_MANUAL_H
#define MF_CLI_MANUAL_H

#include <stdio.h>

#include "vmm/cli/cli.h"

extern const struct cli_usage manual_usage;

int manual_command(int argc, char **argv);

/* Prints a page, in roff with the man macros. */
void manual_print(const char *page, const struct cli_command *commands, FILE *out);

#endif
