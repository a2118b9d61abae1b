# Keeps all that it reads, from 16 MiB up, and in r15 how much that is. At the end of a line it writes everything that it
# has kept. Resets after ^D. For snapshots.
.include "flat.inc"
.set END, 4
.set KEPT, 0x1000000
start:
	mov $KEPT, %r15d
	puts "keep\n"
1:	mov $COM1_LSR, %edx
2:	in %dx, %al
	test $LSR_DR, %al
	jz 2b
	mov $COM1, %edx
	in %dx, %al
	cmp $END, %al
	je 4f
	mov %al, (%r15)
	inc %r15
	cmp $'\n', %al
	jne 1b
	mov $KEPT, %esi
	mov %r15d, %ecx
	sub %esi, %ecx
3:	lodsb
	out %al, %dx
	dec %ecx
	jnz 3b
	jmp 1b
4:	reset
