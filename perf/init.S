# The guest's /init for perf/boot. CPUID always leaves the guest, so that the host sees these two without any help of the
# monitor (tracepoint kvm_cpuid): leaf 0x4d59464c is PID 1's first instruction but one, leaf 0x4d59464d comes just before
# reboot(2). "up" is for measurements by the console alone. As `init ... wait` it stays, for measurements of its monitor.

#include <sys/syscall.h>

#define MARK_UP 0x4d59464c
#define MARK_DOWN 0x4d59464d
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
	mov $MARK_DOWN, %eax
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

up:	.ascii "up\n"
up_end:
	.section .note.GNU-stack, "", @progbits
