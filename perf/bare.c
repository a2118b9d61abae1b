/*
 * The lower bound for perf/boot: what KVM itself takes. A VM with one vCPU and 64 KiB of memory, without interrupt
 * controllers, runs a real-mode payload that marks its start and its end by CPUID as init.S does, and halts; then the
 * process ends. Nothing is cleaned up: the kernel does that.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define RAM_SIZE 0x10000
#define PAYLOAD_GPA 0x1000

static const uint8_t payload[] = {
	0x66, 0xb8, 0x4c, 0x46, 0x59, 0x4d, /* mov $0x4d59464c, %eax */
	0x0f, 0xa2,			    /* cpuid */
	0x66, 0xb8, 0x4d, 0x46, 0x59, 0x4d, /* mov $0x4d59464d, %eax */
	0x0f, 0xa2,			    /* cpuid */
	0xf4,				    /* hlt */
};

static int fail(const char *what)
{
	perror(what);
	return 1;
}

static int add_ram(int vm)
{
	uint8_t *ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region slot = { .memory_size = RAM_SIZE, .userspace_addr = (uintptr_t)ram };

	if (ram == MAP_FAILED)
		return -1;
	memcpy(ram + PAYLOAD_GPA, payload, sizeof(payload));
	return ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot);
}

static int set_start(int vcpu)
{
	struct kvm_regs regs = { .rip = PAYLOAD_GPA, .rflags = 2 };
	struct kvm_sregs sregs;

	if (ioctl(vcpu, KVM_GET_SREGS, &sregs) < 0)
		return -1;
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	if (ioctl(vcpu, KVM_SET_SREGS, &sregs) < 0)
		return -1;
	return ioctl(vcpu, KVM_SET_REGS, &regs);
}

int main(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm, vcpu;
	struct kvm_run *run;

	if (kvm < 0)
		return fail("/dev/kvm");
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0)
		return fail("KVM_CREATE_VM");
	if (add_ram(vm) < 0)
		return fail("KVM_SET_USER_MEMORY_REGION");
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	if (vcpu < 0)
		return fail("KVM_CREATE_VCPU");
	run = mmap(NULL, sizeof(*run), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		return fail("kvm_run");
	if (set_start(vcpu) < 0)
		return fail("registers");
	if (ioctl(vcpu, KVM_RUN, 0) < 0)
		return fail("KVM_RUN");
	if (run->exit_reason != KVM_EXIT_HLT) {
		fprintf(stderr, "bare: unexpected KVM exit %u\n", run->exit_reason);
		return 1;
	}
	return 0;
}
