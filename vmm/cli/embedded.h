/* Files of configs/ that are part of the binary, each with a NUL at its end. */
#ifndef MF_CLI_EMBEDDED_H
#define MF_CLI_EMBEDDED_H

extern const char text_manual_1[], text_manual_5[], text_manual_jailer[];
extern const char text_completion_bash[], text_completion_zsh[], text_completion_fish[];

#endif
