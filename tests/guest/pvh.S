# Says hello, if it was started by PVH, in 32-bit mode with EBX at the start info, and resets.
.include "flat.inc"
	.code32
start:
	cmpl $0x336ec578, (%ebx)
	jne 1f
	mov %cr0, %eax
	test %eax, %eax			# CR0.PG
	js 1f
	puts "hello by PVH\n"
	reset
1:	wrong "no start info, or paging is on"

	.section .note.xen, "a", @note
	.balign 4
	.long 4, 4, 18			# XEN_ELFNOTE_PHYS32_ENTRY
	.asciz "Xen"
	.long start
