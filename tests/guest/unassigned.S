# Touches ports and addresses that belong to nobody: reads give all ones and writes go nowhere, in every width, for
# string instructions too, and at the edges of the devices that exist.
.include "flat.inc"
.set PORT, 0x1234
.set LAST_PORT, 0xffff
.set GPA, 0x20000000			# above the RAM of any test that uses this
start:
	mov $PORT, %edx
	xor %eax, %eax
	in %dx, %eax
	cmp $-1, %eax
	jne bad_port
	xor %eax, %eax
	in %dx, %ax
	cmp $0xffff, %eax
	jne bad_port
	xor %eax, %eax
	in %dx, %al
	cmp $0xff, %eax
	jne bad_port
	out %al, %dx
	out %ax, %dx
	out %eax, %dx
	mov $LAST_PORT, %edx
	out %al, %dx
	in %dx, %al
	cmp $0xff, %al
	jne bad_port

	# Four bytes of which only the first is COM1's.
	mov $COM1 + 7, %edx
	in %dx, %eax
	out %eax, %dx

	mov $buffer, %edi
	mov $600, %ecx			# more than KVM hands over at once
	mov $PORT, %edx
	rep insb
	cmpb $0xff, buffer + 599
	jne bad_port
	cmpb $0, buffer + 600
	jne bad_port
	mov $buffer, %esi
	mov $600, %ecx
	rep outsb

	mov $GPA, %ebx
	mov (%rbx), %rax
	cmp $-1, %rax
	jne bad_memory
	mov 5(%rbx), %eax
	cmp $-1, %eax
	jne bad_memory
	mov 2(%rbx), %ax
	cmp $0xffff, %ax
	jne bad_memory
	mov 1(%rbx), %al
	cmp $0xff, %al
	jne bad_memory
	mov 0xffc(%rbx), %rax		# across a page
	movq $0, (%rbx)
	movl $0, 5(%rbx)
	movw $0, 2(%rbx)
	movb $0, 1(%rbx)
	cmpb $0xff, 1(%rbx)
	jne bad_memory
	puts "all ones\n"
	reset
bad_port:
	wrong "a port"
bad_memory:
	wrong "a guest address"

	.bss
buffer:
	.skip 1024
