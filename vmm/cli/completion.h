/*
 * `mayfly completion`: prints the script with which a shell completes mayfly's command
 * lines, and answers that script's requests. So the scripts themselves know no option.
 */
#ifndef MF_CLI_COMPLETION_H
#define MF_CLI_COMPLETION_H

#include <stdio.h>

#include "vmm/cli/cli.h"

extern const struct cli_usage completion_usage;

int completion_command(int argc, char **argv);

/*
 * Prints the possible completions. word[num - 1] is the word to complete, which may be
 * ""; those before it are the command line up to it, without the program's name. Each
 * line is a completion, a tab, and its meaning; or the line CLI_FILES: the names of
 * files. A word such as "--kernel=FI" may be one word, or the three that bash makes of
 * it.
 */
void completion_answer(const struct cli_command *commands, char *const word[], int num, FILE *out);

#endif
