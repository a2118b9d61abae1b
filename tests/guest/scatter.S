# Writes the number of its round to each second page of 96 MiB from 16 MiB up, and checks before that there is the number of the round
# before. Says "done" then, and begins the next round when it has read a byte; resets after ^D. For forks, of more pieces of memory than others have.
.include "flat.inc"
.set PAGES, 0x1000000
.set PAGES_END, PAGES + 96 * 0x100000
start:
	xor %r15d, %r15d			# the round before
1:	mov $PAGES, %edi
2:	cmp %r15, (%rdi)
	jne 9f
	inc %r15
	mov %r15, (%rdi)
	dec %r15
	add $0x2000, %edi
	cmp $PAGES_END, %edi
	jb 2b
	inc %r15
	puts "done\n"
	mov $COM1_LSR, %edx
3:	in %dx, %al
	test $LSR_DR, %al
	jz 3b
	mov $COM1, %edx
	in %dx, %al
	cmp $4, %al				# ^D
	jne 1b
	reset
9:	wrong "a page is of another round"
