/* The texts, taken in by the assembler. The Makefile knows that this file depends on them. */
#include "vmm/cli/embedded.h"

#define TEXT(name, path)                                                                                               \
	__asm__(".pushsection .rodata." #name ", \"a\"\n"                                                              \
		".globl " #name "\n" #name ":\n"                                                                       \
		".incbin \"" path "\"\n"                                                                               \
		".byte 0\n"                                                                                            \
		".popsection\n")

TEXT(text_manual_1, "configs/manual/mayfly.1");
TEXT(text_manual_5, "configs/manual/mayfly.5");
TEXT(text_manual_jailer, "configs/manual/mayfly-jailer.1");
TEXT(text_completion_bash, "configs/completion/mayfly.bash");
TEXT(text_completion_zsh, "configs/completion/mayfly.zsh");
TEXT(text_completion_fish, "configs/completion/mayfly.fish");
