# Writes lines to the console without end, without asking whether the port is ready.
.include "flat.inc"
start:
	puts "0123456789abcdefghijklmnopqrstuvwxyz\n"
	jmp start
