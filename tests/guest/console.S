# Says what mayfly's init does where the kernel has no vsock, so that its command is on the console, and computes on.
.include "flat.inc"
start:
	puts "mayfly-init: no vsock, using the console\ncommand\n"
1:	jmp 1b
