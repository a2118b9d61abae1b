# Writes the first four letters of the CPU's name, and those that IA32_SYSENTER_CS holds. Resets.
.include "flat.inc"
.set NAME, 0x80000002
.set SYSENTER_CS, 0x174
.set ROOM, 0x200000
start:
	mov $NAME, %eax
	cpuid
	mov %eax, ROOM
	mov $SYSENTER_CS, %ecx
	rdmsr
	mov %eax, ROOM + 4
	movb $'\n', ROOM + 8
	mov $ROOM, %esi
	mov $9, %ecx
	mov $COM1, %edx
1:	lodsb
	out %al, %dx
	dec %ecx
	jnz 1b
	reset
