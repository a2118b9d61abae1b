/* The KVM objects of one VM; see kvm.h. */
#include "vmm/core/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdstore.h"
#include "vmm/base/util.h"
#include "vmm/core/mem.h"

/*
 * Three pages for Intel's real-mode emulation: above any RAM below 4 GiB, below the BIOS
 * area.
 */
#define KVM_TSS_GPA 0xfffbd000UL

static const struct {
	int cap;
	const char *name;
} caps_needed[] = {
	{ KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY" },
	{ KVM_CAP_SPLIT_IRQCHIP, "KVM_CAP_SPLIT_IRQCHIP" },
	{ KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI" },
	{ KVM_CAP_IOEVENTFD_ANY_LENGTH, "KVM_CAP_IOEVENTFD_ANY_LENGTH" },
	{ KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT" },
	{ KVM_CAP_TSC_DEADLINE_TIMER, "KVM_CAP_TSC_DEADLINE_TIMER" },
	{ KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR" },
};

int kvm_open(struct err *e)
{
	int fd = open(KVM_PATH, O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	err_sys(e, "open " KVM_PATH);
	switch (e->code) {
	case -ENOENT:
	case -ENXIO:
	case -ENODEV:
		return err_wrap(e, "no KVM here (load kvm_intel or kvm_amd, or enable virtualisation in the firmware)");
	case -EACCES:
	case -EPERM:
		return err_wrap(e, "no permission to use KVM (join the group that owns " KVM_PATH ", usually 'kvm')");
	default:
		return e->code;
	}
}

static int check_kvm(struct kvm *k, struct err *e)
{
	int version = ioctl(k->fd, KVM_GET_API_VERSION, 0), size;

	if (version < 0)
		return err_sys(e, KVM_PATH " is not KVM: KVM_GET_API_VERSION");
	if (version != KVM_API_VERSION)
		return err_set(e, -ENOTSUP, KVM_PATH " has API version %d, mayfly needs %d", version, KVM_API_VERSION);
	for (size_t i = 0; i < MF_ARRAY_SIZE(caps_needed); i++) {
		if (ioctl(k->fd, KVM_CHECK_EXTENSION, caps_needed[i].cap) <= 0)
			return err_set(e, -ENOTSUP, "this kernel's KVM lacks %s", caps_needed[i].name);
	}
	size = ioctl(k->fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (size < (int)sizeof(struct kvm_run))
		return err_set(e, -ENOTSUP, "KVM_GET_VCPU_MMAP_SIZE answered %d", size);
	k->run_size = (size_t)size;
	return 0;
}

int kvm_probe(struct kvm *k, struct err *e)
{
	k->fd = fdstore_take(KVM_PATH, O_RDWR);
	if (k->fd < 0)
		k->fd = kvm_open(e);
	if (k->fd < 0)
		return k->fd;
	return check_kvm(k, e);
}

int kvm_init(struct kvm *k, struct err *e)
{
	int r = k->fd < 0 ? kvm_probe(k, e) : 0;

	if (r < 0 || k->vm_fd >= 0)
		return r;
	do {
		k->vm_fd = ioctl(k->fd, KVM_CREATE_VM, 0);
	} while (k->vm_fd < 0 && errno == EINTR);
	if (k->vm_fd < 0)
		return err_sys(e, "KVM_CREATE_VM");
	if (ioctl(k->vm_fd, KVM_SET_TSS_ADDR, KVM_TSS_GPA) < 0)
		return err_sys(e, "KVM_SET_TSS_ADDR");
	return 0;
}

void kvm_done(struct kvm *k)
{
	if (k->vm_fd >= 0)
		close(k->vm_fd);
	if (k->fd >= 0)
		close(k->fd);
	*k = KVM_INIT;
}

int kvm_set_memory(struct kvm *k, const struct mem *m, struct err *e)
{
	for (unsigned i = 0; i < m->num_regions; i++) {
		const struct mem_region *r = &m->region[i];
		struct kvm_userspace_memory_region slot = {
			.slot = i,
			.guest_phys_addr = r->gpa,
			.memory_size = r->size,
			.userspace_addr = (uintptr_t)r->host,
		};

		if (ioctl(k->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
			return err_sys(e, "KVM_SET_USER_MEMORY_REGION of %llu MiB at 0x%llx",
				       (unsigned long long)(r->size / MIB), (unsigned long long)r->gpa);
	}
	return 0;
}

int kvm_set_split_irqchip(struct kvm *k, unsigned num_pins, struct err *e)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { num_pins } };

	if (ioctl(k->vm_fd, KVM_ENABLE_CAP, &cap) < 0)
		return err_sys(e, "KVM_ENABLE_CAP of KVM_CAP_SPLIT_IRQCHIP");
	return 0;
}

int kvm_signal_msi(const struct kvm *k, uint32_t address, uint32_t data)
{
	struct kvm_msi msi = { .address_lo = address, .data = data };

	return ioctl(k->vm_fd, KVM_SIGNAL_MSI, &msi) < 0 ? -errno : 0;
}

int kvm_ioeventfd_add(const struct kvm *k, uint64_t gpa, int eventfd)
{
	struct kvm_ioeventfd ioe = { .addr = gpa, .len = 0, .fd = eventfd };

	return ioctl(k->vm_fd, KVM_IOEVENTFD, &ioe) < 0 ? -errno : 0;
}
