/* Whether this host's KVM runs a kernel's code on the processor itself, or emulates it, so that Linux does not boot. */
#ifndef MF_DOCTOR_KVM_NATIVE_H
#define MF_DOCTOR_KVM_NATIVE_H

struct err;

#define KVM_NATIVE_MILLIONS 20 /* instructions that both times are for */

struct kvm_native {
	double guest_s, here_s; /* processor time in a guest's kernel mode, and in our user space */
};

/*
 * Tries it, on /dev/kvm. Returns 0 if it does, or a negative errno with e set to the reason:
 * -ETIME if KVM is slow, or the host is busy. Takes a tenth of a second; SIGALRM ends it after ten
 * seconds, so call it where no other thread is.
 */
int kvm_native_probe(struct kvm_native *ret, struct err *e);

#endif
