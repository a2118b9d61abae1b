/*
 * xsetbv: whether this host's processor intercepts XSETBV for KVM, as AMD-V and VT-x must. A guest sets XCR0, and asks for
 * it and for the size of the XSAVE area (CPUID 0xd) afterwards, and again after an exit. It needs nothing of mayfly's:
 *
 *	gcc -O2 -o /tmp/xsetbv tests/lab/xsetbv.c && /tmp/xsetbv
 *
 * The status is 0 if all agree, else 1. In the lab they do not: see "XSAVE" in README.md.
 */
#include <err.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define CR4_OSXSAVE (1 << 18)
#define LEAFS_MAX 256

/* At 0x1000, in real mode. Results go to 0x2000: XCR0, CPUID 0xd's EBX; then, after an exit, XCR0. */
static const uint8_t code[] = {
	0x66, 0x31, 0xc9,		    /* xor ecx, ecx */
	0x66, 0x31, 0xd2,		    /* xor edx, edx */
	0x66, 0xa1, 0x00, 0x20,		    /* mov eax, [0x2000]: what to set */
	0x0f, 0x01, 0xd1,		    /* xsetbv */
	0x0f, 0x01, 0xd0,		    /* xgetbv */
	0x66, 0xa3, 0x00, 0x20,		    /* mov [0x2000], eax */
	0x66, 0xb8, 0x0d, 0x00, 0x00, 0x00, /* mov eax, 0xd */
	0x0f, 0xa2,			    /* cpuid, which leaves to KVM */
	0x66, 0x89, 0x1e, 0x04, 0x20,	    /* mov [0x2004], ebx */
	0x66, 0x31, 0xc9,		    /* xor ecx, ecx */
	0x0f, 0x01, 0xd0,		    /* xgetbv */
	0x66, 0xa3, 0x08, 0x20,		    /* mov [0x2008], eax */
	0xf4,				    /* hlt */
};

static int check(int rc, const char *what)
{
	if (rc < 0)
		err(2, "%s", what);
	return rc;
}

/* CPUID as KVM has it; returns the features that XCR0 may name, of which AVX's suffice. */
static uint32_t set_cpuid(int kvm, int vcpu)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + LEAFS_MAX * sizeof(c->entries[0]));
	uint32_t features = 0;

	if (!c)
		err(2, "calloc");
	c->nent = LEAFS_MAX;
	check(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, c), "KVM_GET_SUPPORTED_CPUID");
	check(ioctl(vcpu, KVM_SET_CPUID2, c), "KVM_SET_CPUID2");
	for (unsigned i = 0; i < c->nent; i++)
		if (c->entries[i].function == 0xd && c->entries[i].index == 0)
			features = c->entries[i].eax & 7;
	free(c);
	return features;
}

int main(void)
{
	int kvm = check(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
	int vm = check(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
	int size = check(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE"), vcpu;
	uint8_t *ram = mmap(NULL, 0x3000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region region = { .memory_size = 0x3000, .userspace_addr = (uintptr_t)ram };
	struct kvm_regs regs = { .rip = 0x1000, .rflags = 2 };
	uint32_t want, got[3];
	struct kvm_sregs sregs;
	struct kvm_xcrs xcrs;
	struct kvm_run *run;

	if (ram == MAP_FAILED)
		err(2, "mmap");
	memcpy(ram + 0x1000, code, sizeof(code));
	check(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
	vcpu = check(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
	run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		err(2, "mmap");
	want = set_cpuid(kvm, vcpu);
	if (want == 0) {
		puts("xsetbv: KVM offers no XSAVE here");
		return 0;
	}
	memcpy(ram + 0x2000, &want, sizeof(want));
	check(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
	sregs.cs.base = sregs.cs.selector = 0;
	sregs.cr4 |= CR4_OSXSAVE;
	check(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
	check(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
	check(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
	if (run->exit_reason != KVM_EXIT_HLT)
		errx(2, "the guest ended with exit reason %u", run->exit_reason);
	check(ioctl(vcpu, KVM_GET_XCRS, &xcrs), "KVM_GET_XCRS");
	memcpy(got, ram + 0x2000, sizeof(got));
	printf("xsetbv: the guest set XCR0 to %u and read %u, after an exit %u; KVM takes it for %llu; CPUID 0xd: %u bytes\n",
	       want, got[0], got[2], (unsigned long long)xcrs.xcrs[0].value, got[1]);
	return got[0] == want && got[2] == want && xcrs.xcrs[0].value == want ? 0 : 1;
}
