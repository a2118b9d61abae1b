/*
 * `mayfly completion`: prints the script with which a shell completes mayfly's command lines, and answers what that
 * script asks, so that the scripts know no option themselves.
 */
#ifndef MF_CLI_COMPLETION_H
#define MF_CLI_COMPLETION_H

#include <stdio.h>

#include "vmm/cli/cli.h"

extern const struct cli_usage completion_usage;

int completion_command(int argc, char **argv);

/*
 * Prints what may follow: word[num - 1] is the word to complete, which may be "", those before it are the command line up
 * to it without the program's name. Each line is what the word may become, a tab, and what that means; or it is the line
 * CLI_FILES: the names of files. A word such as "--kernel=FI" is one, or the three that bash makes of it.
 */
void completion_answer(const struct cli_command *commands, char *const word[], int num, FILE *out);

#endif
