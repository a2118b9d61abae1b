/* Files of configs/ that are part of the binary, each with a NUL at its end. */
#ifndef MF_CLI_EMBEDDED_H
#define MF_CLI_EMBEDDED_H

extern const char embedded_manual_1[], embedded_manual_5[], embedded_manual_jailer[];
extern const char embedded_completion_bash[], embedded_completion_zsh[], embedded_completion_fish[];

#endif
