/* The texts, taken in by the assembler. The Makefile knows that this file depends on them. */
#include "vmm/cli/embedded.h"

#define TEXT(name, path)                                                                                               \
	__asm__(".pushsection .rodata." #name ", \"a\"\n"                                                              \
		".globl " #name "\n" #name ":\n"                                                                       \
		".incbin \"" path "\"\n"                                                                               \
		".byte 0\n"                                                                                            \
		".popsection\n")

TEXT(embedded_manual_1, "configs/manual/mayfly.1");
TEXT(embedded_manual_5, "configs/manual/mayfly.5");
TEXT(embedded_manual_jailer, "configs/manual/mayfly-jailer.1");
TEXT(embedded_completion_bash, "configs/completion/mayfly.bash");
TEXT(embedded_completion_zsh, "configs/completion/mayfly.zsh");
TEXT(embedded_completion_fish, "configs/completion/mayfly.fish");
