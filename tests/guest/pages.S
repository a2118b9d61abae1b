# Writes the number of its round to each of 8,192 pages from 16 MiB up, one after the other, where it checks that there is the
# number of the round before. Says "still whole" at times, and "wrong" at a page that has another number. For forks.
.include "flat.inc"
.set PAGES, 0x1000000
.set PAGES_END, PAGES + 8192 * 0x1000
.set SAY_EVERY, 3
start:
	xor %r15d, %r15d			# the round before
1:	mov $PAGES, %edi
2:	cmp %r15, 0x800(%rdi)
	jne 9f
	inc %r15
	mov %r15, 0x800(%rdi)
	dec %r15
	add $0x1000, %edi
	cmp $PAGES_END, %edi
	jne 2b
	inc %r15
	test $SAY_EVERY, %r15d
	jnz 1b
	puts "still whole\n"
	jmp 1b
9:	wrong "a page is of another round"
