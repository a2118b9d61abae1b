# Writes back each byte that it reads, "(break)" for a break, and resets after ^D.
.include "flat.inc"
.set END, 4
.set LSR_BI, 0x10		# the byte is no byte but a break
start:
	puts "echo\n"
1:	mov $COM1_LSR, %edx
2:	in %dx, %al
	test $LSR_DR, %al
	jz 2b
	mov %eax, %ebp
	mov $COM1, %edx
	in %dx, %al
	test $LSR_BI, %ebp
	jnz 4f
	mov %eax, %ebx
	mov $COM1_LSR, %edx
3:	in %dx, %al
	test $LSR_THRE, %al
	jz 3b
	mov %ebx, %eax
	mov $COM1, %edx
	out %al, %dx
	cmp $END, %bl
	jne 1b
	reset
4:	puts "(break)"
	jmp 1b
