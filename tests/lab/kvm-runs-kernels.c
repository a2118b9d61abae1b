/*
 * kvm-runs-kernels: whether this host's KVM runs a kernel's code on the processor itself (vmm/doctor/kvm_native.c), for
 * scripts. One line on standard output, and status 0 for yes, 1 for no.
 */
#include <stdio.h>

#include "vmm/base/err.h"
#include "vmm/doctor/kvm_native.h"

int main(void)
{
	struct kvm_native n;
	struct err e;

	if (kvm_native_probe(&n, &e) < 0) {
		printf("kvm: does not run kernel code natively: %s\n", e.text);
		return 1;
	}
	printf("kvm: runs kernel code natively (%d million instructions in %.0f ms; %.0f ms in user space)\n",
	       KVM_NATIVE_MILLIONS, n.guest_s * 1e3, n.here_s * 1e3);
	return 0;
}
