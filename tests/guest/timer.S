# Writes to Firecracker's boot timer: what does not count, then the magic byte twice. Resets.
.include "flat.inc"
.set TIMER, 0xc0000000
.set MAGIC, 123
.set DIRECTORY, 0x800000	# a page of its own: the fourth GiB, of which it maps 2 MiB
.set PRESENT, 0x3
.set LARGE, 0x83
start:
	mov $TIMER + LARGE, %eax
	mov %rax, DIRECTORY
	mov %cr3, %rax
	mov (%rax), %rbx	# the table of the first 512 GiB
	and $~0xfff, %rbx
	movq $DIRECTORY + PRESENT, 24(%rbx)
	mov %rax, %cr3
	mov $TIMER, %ebx
	movb $MAGIC - 1, (%rbx)
	movb $MAGIC, 1(%rbx)
	movl $MAGIC, (%rbx)
	puts "timer\n"
	movb $MAGIC, (%rbx)
	movb $MAGIC, (%rbx)
	reset
