# Writes lines to the console for ever, without asking whether the port is ready.
.include "flat.inc"
start:
	puts "0123456789abcdefghijklmnopqrstuvwxyz\n"
	jmp start
