# Halts with interrupts on, as an idle kernel does. None comes, so it idles until it is ended.
.include "flat.inc"
start:
	puts "idle\n"
1:	sti
	hlt
	jmp 1b
