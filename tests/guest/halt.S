# Halts with interrupts off: nothing will ever wake it.
.include "flat.inc"
start:
	puts "halting\n"
1:	cli
	hlt
	jmp 1b
