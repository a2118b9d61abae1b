# Interprets a script, its initrd, that abuses the devices; tests/hostile/ writes the scripts and says what they mean.
#
# A script is an array of operations of 32 bytes and is run from SCRIPT, where it is copied first: code (8 bits), log2 of
# the width in bytes (8), flags (16), count (32), addr, value, mask (64 each). With flag 1 addr is where the address is,
# with flag 2 value is where the value is. Addresses are physical: below 1 GiB, or from 3 to 4 GiB.
#
# On COM1 it says: "c<case>" as a case begins, "f<operation> <value read>" where one fails, "?<number>" as it waits for a
# byte from the host; what else is to be said is text in the script (PRINT). Numbers are hexadecimal.
#
# The second CPU, once started, waits for an address in ap_list, runs what is there until END and clears ap_list.
#
# Only plain instructions are used: some of the KVMs that this runs on emulate each of them. No IDT: any exception ends
# the VM by a triple fault.
.include "flat.inc"

.set SCRIPT, 0x2000000
.set AP_PAGE, 0x60		# of the second CPU's first instruction
.set AP_START, AP_PAGE << 12
.set RAMDISK, 0x218		# in boot_params: address, then size
.set SVR, 0xfee000f0		# of the local APIC: enables it, without which KVM may not find the other one
.set SVR_ENABLE, 0x1ff
.set ICR, 0xfee00300
.set ICR_INIT, 0x4500
.set ICR_STARTUP, 0x4600
.set TICK_SHIFT, 24		# a time-out is in ticks of 16 M cycles: 4 to 8 ms

start:
	cld
	mov %rsi, %rbp
	mov %cr3, %rdx			# 3 to 4 GiB, in pages of 2 MiB
	mov %edx, ap_cr3
	mov (%rdx), %rdi
	and $~0xfff, %rdi
	mov $directory, %eax
	or $3, %eax
	mov %rax, 24(%rdi)
	mov $directory, %edi
	mov $0xc0000083, %eax
	mov $512, %ecx
1:	mov %rax, (%rdi)
	add $0x200000, %rax
	add $8, %edi
	dec %ecx
	jnz 1b
	mov %rdx, %cr3
	mov RAMDISK(%rbp), %esi
	mov RAMDISK + 4(%rbp), %ecx
	add $7, %ecx
	shr $3, %ecx
	mov $SCRIPT, %edi
	rep movsq
	xor %r13d, %r13d		# 1 on the second CPU
	mov $stack, %esp
	mov $SCRIPT, %ebx

# rbx: the next operation. For its handler: eax code, width and flags, ecx count, rdi addr, rsi value, r8 mask.
next:
	mov (%rbx), %eax
	mov 4(%rbx), %ecx
	mov 8(%rbx), %rdi
	mov 16(%rbx), %rsi
	mov 24(%rbx), %r8
	add $32, %rbx
	test $0x30000, %eax
	jnz 2f
1:	movzbl %al, %edx
	jmp *handlers(,%rdx,8)
2:	test $0x10000, %eax
	jz 3f
	mov (%rdi), %rdi
3:	test $0x20000, %eax
	jz 1b
	mov (%rsi), %rsi
	jmp 1b

# rax = what is at rdi, of the width in ah.
load:
	movzbl %ah, %edx
	cmp $2, %dl
	jb 1f
	ja 2f
	mov (%rdi), %eax
	ret
1:	test %dl, %dl
	jz 3f
	movzwl (%rdi), %eax
	ret
2:	mov (%rdi), %rax
	ret
3:	movzbl (%rdi), %eax
	ret

# Reads as load does; the zero flag tells whether it is value in the bits of mask.
load_and_compare:
	call load
	mov %rax, %r10
	xor %rsi, %r10
	and %r8, %r10
	ret

do_write:
	movzbl %ah, %edx
	cmp $2, %dl
	jb 1f
	ja 2f
	mov %esi, (%rdi)
	jmp next
1:	test %dl, %dl
	jz 3f
	mov %si, (%rdi)
	jmp next
2:	mov %rsi, (%rdi)
	jmp next
3:	mov %sil, (%rdi)
	jmp next

do_add:
	movzbl %ah, %edx
	cmp $2, %dl
	jb 1f
	ja 2f
	add %esi, (%rdi)
	jmp next
1:	add %si, (%rdi)
	jmp next
2:	add %rsi, (%rdi)
	jmp next

do_expect:
	call load_and_compare
	jz next
	jmp fail

# Goes on at count if it is so.
do_branch:
	call load_and_compare
	jnz next
	mov %ecx, %ebx
	jmp next

# Until it is so, for at most count ticks.
do_wait:
	mov %eax, %r11d
	call clock
	mov %eax, %r9d
1:	mov %r11d, %eax
	call load_and_compare
	jz next
	mov %rax, %r10
	pause
	call clock
	sub %r9d, %eax
	cmp %ecx, %eax
	jb 1b
	mov %r10, %rax
	jmp fail

# eax = ticks since some time.
clock:
	rdtsc
	shr $TICK_SHIFT, %eax
	shl $32 - TICK_SHIFT, %edx
	or %edx, %eax
	ret

# Count times 8 bytes.
do_fill:
	mov %rsi, %rax
	rep stosq
	jmp next

# Count items, from value to addr, by string instructions.
do_copy:
	movzbl %ah, %edx
	cmp $2, %dl
	jb 1f
	ja 2f
	rep movsl
	jmp next
1:	test %dl, %dl
	jz 3f
	rep movsw
	jmp next
2:	rep movsq
	jmp next
3:	rep movsb
	jmp next

do_out:
	movzbl %ah, %ecx
	mov %edi, %edx
	mov %esi, %eax
	cmp $1, %ecx
	jb 1f
	ja 2f
	out %ax, %dx
	jmp next
1:	out %al, %dx
	jmp next
2:	out %eax, %dx
	jmp next

do_in:
	movzbl %ah, %ecx
	mov %edi, %edx
	xor %eax, %eax
	cmp $1, %ecx
	jb 1f
	ja 2f
	in %dx, %ax
	jmp 3f
1:	in %dx, %al
	jmp 3f
2:	in %dx, %eax
3:	mov %rax, %r10
	xor %rsi, %r10
	and %r8, %r10
	jz next
	jmp fail

# Count bytes from value to the port addr.
do_outs:
	mov %edi, %edx
	rep outsb
	jmp next

# Count bytes from the port value to addr.
do_ins:
	mov %esi, %edx
	rep insb
	jmp next

do_call:
	push %rbx
	mov %rsi, %rbx
	jmp next

do_return:
	pop %rbx
	jmp next

# To value, count times in all; the counter is at addr and is 0 again afterwards.
do_loop:
	incq (%rdi)
	cmp %rcx, (%rdi)
	jae 1f
	mov %rsi, %rbx
	jmp next
1:	movq $0, (%rdi)
	jmp next

do_fence:
	lock addl $0, (%rsp)
	jmp next

# Case number count; value: where to go on when it fails.
do_case:
	mov %esi, recover
	mov %ecx, %edi
	mov $'c', %eax
	call put_number
	call put_line
	jmp next

fail:
	test %r13d, %r13d
	jnz ap_fail
	mov %rax, %r12
	mov %ebx, %edi
	sub $SCRIPT + 32, %edi
	shr $5, %edi
	mov $'f', %eax
	call put_number
	mov %r12, %rdi
	mov $' ', %eax
	call put_number
	call put_line
	mov $stack, %esp
	mov recover, %ebx
	jmp next

# The bytes of value, until one is 0.
do_print:
1:	mov %esi, %eax
	test %al, %al
	jz next
	call put
	shr $8, %rsi
	jmp 1b

do_sync:
	mov %ecx, %edi
	mov $'?', %eax
	call put_number
	call put_line
	mov $COM1_LSR, %edx
1:	in %dx, %al
	test $LSR_DR, %al
	jz 1b
	mov $COM1, %edx
	in %dx, %al
	jmp next

put_line:
	mov $'\n', %eax
# Writes al, when the port is ready.
put:
	mov %eax, %r10d
	mov $COM1_LSR, %edx
1:	in %dx, %al
	test $LSR_THRE, %al
	jz 1b
	mov %r10d, %eax
	mov $COM1, %edx
	out %al, %dx
	ret

# Writes al and rdi.
put_number:
	call put
	mov $64, %ecx
1:	sub $4, %ecx			# to the first digit
	jz 2f
	mov %rdi, %rax
	shr %cl, %rax
	jz 1b
2:	mov %rdi, %rax
	shr %cl, %rax
	and $15, %eax
	movzbl digits(%rax), %eax
	call put
	sub $4, %ecx
	jns 2b
	ret

# The second CPU runs the operations at value. It is started the first time.
do_ap:
	mov %esi, %r12d
	cmpl $0, ap_alive
	jne 2f
	mov $ap_real, %esi
	mov $AP_START, %edi
	mov $ap_real_end - ap_real, %ecx
	rep movsb
	mov $SVR, %edi
	movl $SVR_ENABLE, (%rdi)
	mov $ICR, %edi
	movl $1 << 24, 0x10(%rdi)
	movl $ICR_INIT, (%rdi)
	movl $ICR_STARTUP | AP_PAGE, (%rdi)
	call clock
	mov %eax, %r9d
1:	cmpl $0, ap_alive
	jne 2f
	call clock
	sub %r9d, %eax
	cmp $1024, %eax
	jb 1b
	mov $-1, %rax
	jmp fail
2:	mov %r12d, ap_list
	jmp next

# Until the second CPU has ended, for at most count ticks.
do_join:
	call clock
	mov %eax, %r9d
1:	cmpl $0, ap_list
	je 2f
	pause
	call clock
	sub %r9d, %eax
	cmp %ecx, %eax
	jb 1b
	mov $-2, %rax
	jmp fail
2:	xor %eax, %eax
	xchg %eax, ap_failed
	test %eax, %eax
	jz next
	jmp fail

	.code16
ap_real:
	mov $0x20, %eax			# PAE
	mov %eax, %cr4
	mov %cs:ap_cr3_copy - ap_real, %eax
	mov %eax, %cr3
	mov $0xc0000080, %ecx		# EFER.LME
	mov $0x100, %eax
	xor %edx, %edx
	wrmsr
	lgdtl %cs:ap_gdt_pointer - ap_real
	mov $0x80000011, %eax		# PG, ET, PE
	mov %eax, %cr0
	ljmpl $8, $ap_long
	.balign 8
ap_gdt:
	.quad 0, 0x00af9b000000ffff
ap_gdt_pointer:
	.word 15
	.long AP_START + ap_gdt - ap_real
ap_cr3_copy:
ap_cr3:
	.long 0
ap_real_end:
	.code64
ap_long:
	mov $ap_stack, %esp
	mov $1, %r13d
	movl $1, ap_alive
1:	pause
	mov ap_list, %ebx
	test %ebx, %ebx
	jz 1b
	jmp next
ap_fail:
	sub $SCRIPT, %ebx
	mov %ebx, ap_failed
ap_end:
	movl $0, ap_list
	jmp 1b

do_end:
	test %r13d, %r13d
	jnz ap_end
	reset

do_jump:
	jmp *%rdi

do_halt:
	cli
	hlt
	jmp do_halt

do_undefined:
	ud2

	.section .rodata
digits:
	.ascii "0123456789abcdef"
	.balign 8
# In the order of OPS in tests/hostile/script.py.
handlers:
	.quad do_end, do_write, do_add, do_expect, do_branch, do_wait, do_fill, do_copy
	.quad do_out, do_in, do_outs, do_ins, do_call, do_return, do_loop, do_fence
	.quad do_case, do_print, do_sync, do_ap, do_join, do_jump, do_halt, do_undefined

	.bss
	.balign 4096
directory:
	.skip 4096
	.skip 2048
stack:
	.skip 2048
ap_stack:
recover:
	.long 0
ap_alive:
	.long 0
ap_list:
	.long 0
ap_failed:
	.long 0
