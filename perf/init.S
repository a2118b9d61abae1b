# The guest's /init for perf/boot. CPUID always leaves the guest, so that the host sees these two without any help of the
# monitor (tracepoint kvm_cpuid): leaf 0x4d59464c is PID 1's first instruction but one, leaf 0x4d59464d comes just before
# reboot(2). "up" is for measurements by the console alone. As `init ... wait` it stays, for measurements of its monitor. As
# `init ... spin` it stays in user space, with a CPUID of leaf 0x4d59464e in each turn, for measurements of a restore: about
# 10^8 instructions from "up" on, which is time to take a snapshot, and then it reboots.

#include <sys/syscall.h>

#define MARK_UP 0x4d59464c
#define MARK_DOWN 0x4d59464d
#define MARK_TURN 0x4d59464e
#define TURNS 20000
#define PAUSES_PER_TURN 2000
#define REBOOT_MAGIC1 0xfee1dead
#define REBOOT_MAGIC2 672274793
#define REBOOT_RESTART 0x1234567

	.globl _start
_start:
	mov $MARK_UP, %eax
	cpuid
	mov $SYS_write, %eax
	mov $1, %edi
	lea up(%rip), %rsi
	mov $(up_end - up), %edx
	syscall
	mov (%rsp), %rax	# argc; argv follows
	mov (%rsp, %rax, 8), %rax
	cmpb $'w', (%rax)
	je wait
	cmpb $'s', (%rax)
	je spin
down:	mov $MARK_DOWN, %eax
	cpuid
	mov $SYS_reboot, %eax
	mov $REBOOT_MAGIC1, %edi
	mov $REBOOT_MAGIC2, %esi
	mov $REBOOT_RESTART, %edx
	syscall
wait:
	mov $SYS_pause, %eax
	syscall
	jmp wait
spin:
	mov $TURNS, %ebp
turn:	mov $MARK_TURN, %eax
	cpuid
	mov $PAUSES_PER_TURN, %ecx	# of two instructions each
1:	dec %ecx
	jnz 1b
	dec %ebp
	jnz turn
	jmp down

up:	.ascii "up\n"
up_end:
	.section .note.GNU-stack, "", @progbits
