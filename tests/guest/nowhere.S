# Jumps to an address where there is no memory (with less than 512 MiB): KVM cannot fetch instructions through an exit.
.include "flat.inc"
start:
	mov $0x20000000, %eax
	jmp *%rax
