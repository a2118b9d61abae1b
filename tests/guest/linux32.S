# A bzImage without a 64-bit entry point, once objcopy has made a binary of it: says hello, if it was started by Linux's
# 32-bit protocol, and resets. It ends within a paragraph, as memtest86+ does.
.set PROGRAM, 0x100400		# where it is linked to be: behind two sectors that are not loaded
.set HELLO_LEN, 26

	.include "flat.inc"
	.code32
image:
	.org 0x1f1
	.byte 1				# setup_sects
	.org 0x1f4
	.long (end - start + 15) / 16	# syssize
	.org 0x1fe
	.word 0xaa55			# boot_flag
	.byte 0xeb, 0x6a		# a jump over the header, whose length it tells
	.ascii "HdrS"
	.word 0x20f			# version
	.org 0x211
	.byte 1				# loadflags: LOADED_HIGH
	.org 0x22c
	.long 0x7fffffff		# initrd_addr_max
	.org 0x238
	.long 2047			# cmdline_size
	.org 0x258
	.quad PROGRAM			# pref_address
	.long 0x10000			# init_size
	.org 0x400
start:
	cmpl $0x53726448, 0x202(%esi)	# "HdrS" in boot_params
	jne 1f
	mov %cr0, %eax
	test %eax, %eax			# CR0.PG
	js 1f
	or %ebp, %edi			# the protocol wants zero in these
	or %ebx, %edi
	jnz 1f
	mov %cs, %eax
	cmp $0x10, %ax
	jne 1f
	mov %ds, %eax
	cmp $0x18, %ax
	jne 1f
	mov $hello, %esi
	mov $HELLO_LEN, %ecx
	mov $COM1, %edx
2:	lodsb
	out %al, %dx
	loop 2b
1:	reset
hello:
	.ascii "hello by the 32-bit Linux\n"
	.balign 16
	.byte 0				# all that there is of the last paragraph
end:
