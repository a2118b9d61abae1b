# Writes each byte value once, from 0 up, when the port is ready for it, and resets.
.include "flat.inc"
start:
	xor %ebx, %ebx
1:	mov $COM1_LSR, %edx
2:	in %dx, %al
	test $LSR_THRE, %al
	jz 2b
	mov %ebx, %eax
	mov $COM1, %edx
	out %al, %dx
	inc %ebx
	cmp $256, %ebx
	jne 1b
	reset
