# Computes without end, without an exit of its own.
.include "flat.inc"
start:
	puts "spinning\n"
1:	jmp 1b
