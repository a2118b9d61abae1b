# Waits for Ctrl+Alt+Del at the keyboard controller, without interrupts: says so, and resets as soon as it has it.
.include "flat.inc"
.set DATA, 0x60
.set FULL, 0x01			# of the status: a byte waits
start:
	puts "keys\n"
	mov $Lkeys, %ebx
1:	in $I8042, %al
	test $FULL, %al
	jz 1b
	in $DATA, %al
	cmp (%rbx), %al
	jne 2f
	inc %rbx
	cmp $Lend, %ebx
	jne 1b
	puts "Ctrl+Alt+Del\n"
	reset
2:	wrong "key"

	.section .rodata
Lkeys:
	.byte 0x14, 0x11, 0xe0, 0x71
Lend:
