# Sends itself interrupts, and looks whether each came once, and none while they were off: a test of the host.
.include "flat.inc"
.set MSR_APIC_BASE, 0x1b
.set X2APIC, 0xc00		# both of its enabling bits
.set MSR_SPURIOUS, 0x80f
.set APIC_ON, 0x1ff
.set MSR_EOI, 0x80b
.set MSR_SELF_IPI, 0x83f
.set VECTOR, 0x40
.set RFLAGS_IF, 0x200
.set ROUNDS, 1000
.set WAIT_TURNS, 1000000000
.set HANDLER_TURNS, 50000	# long enough that the host's clock ticks in some
.set GATE, 0x8e00		# of an interrupt: present, off in the handler
start:
	mov $MSR_APIC_BASE, %ecx
	rdmsr
	or $X2APIC, %eax
	wrmsr
	mov $MSR_SPURIOUS, %ecx
	mov $APIC_ON, %eax
	xor %edx, %edx
	wrmsr
	mov $handler, %eax
	mov $gates + 16 * VECTOR, %ebx
	mov %ax, (%rbx)
	mov %cs, 2(%rbx)
	movw $GATE, 4(%rbx)
	shr $16, %eax
	mov %ax, 6(%rbx)
	lidt table
	sti
	xor %r12d, %r12d	# handled
	xor %r13d, %r13d	# of these, while they were off
	xor %r14d, %r14d	# sent
1:	mov $MSR_SELF_IPI, %ecx
	mov $VECTOR, %eax
	xor %edx, %edx
	wrmsr
	inc %r14d
	mov $WAIT_TURNS, %ebx
2:	cmp %r14d, %r12d	# the handler counts
	jae 3f
	dec %ebx
	jnz 2b
	wrong "an interrupt has not come"
3:	cmp $ROUNDS, %r14d
	jb 1b
	cli
	test %r13d, %r13d
	jnz 4f
	cmp $ROUNDS, %r12d
	jne 5f
	puts "each once\n"
	reset
4:	wrong "an interrupt came while they were off"
5:	wrong "more have come than were sent"

handler:
	push %rax
	push %rcx
	push %rdx
	inc %r12d
	testl $RFLAGS_IF, 40(%rsp)
	jnz 1f
	inc %r13d
1:	mov $HANDLER_TURNS, %ecx
2:	dec %ecx
	jnz 2b
	mov $MSR_EOI, %ecx
	xor %eax, %eax
	xor %edx, %edx
	wrmsr
	pop %rdx
	pop %rcx
	pop %rax
	iretq

	.data
	.balign 8
table:	.word 16 * 256 - 1
	.quad gates
	.bss
	.balign 16
gates:	.skip 16 * 256
