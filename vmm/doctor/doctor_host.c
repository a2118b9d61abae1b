/* The probes that `mayfly doctor` runs on this host; see doctor.h. */
#include <errno.h>
#include <liburing.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jailer/landlock.h"
#include "loader/kernel.h"
#include "vmm/base/err.h"
#include "vmm/config/config.h"
#include "vmm/core/kvm.h"
#include "vmm/core/mem.h"
#include "vmm/core/ring.h"
#include "vmm/doctor/doctor.h"
#include "vmm/doctor/kvm_native.h"

static int try_kvm(struct err *e)
{
	struct kvm k = KVM_INIT;
	int r = kvm_init(&k, e);

	kvm_done(&k);
	return r;
}

static int try_io_uring(struct err *e)
{
	struct io_uring ring;
	int r = ring_make(&ring, "doctor's", LOOP_SOCKETS, 8, e);

	if (r == 0)
		io_uring_queue_exit(&ring);
	return r;
}

/* In a child, because a process cannot leave its new namespace. */
static int try_user_namespace(void)
{
	pid_t pid = fork();
	int status = 0;

	if (pid < 0)
		return -errno;
	if (pid == 0)
		_exit(unshare(CLONE_NEWUSER) == 0 ? 0 : errno);
	if (waitpid(pid, &status, 0) < 0)
		return -errno;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -ECHILD;
}

static int try_kernel(struct config *c, struct err *e)
{
	struct kernel_image image;
	struct mem m;
	int r = config_find_kernel(c, e);

	if (r == 0)
		r = mem_init(&m, CONFIG_MEM_DEFAULT, e);
	if (r < 0)
		return r;
	r = kernel_load(&image, &m, c->kernel, e);
	mem_done(&m);
	return r;
}

static char *find_rootfs(void)
{
	return config_find_file("rootfs.ext4");
}

void doctor_host_init(struct doctor_host *h)
{
	*h = (struct doctor_host){
		.root = "",
		.path = getenv("PATH"),
		.uid = geteuid(),
		.kvm = try_kvm,
		.native = kvm_native_probe,
		.io_uring = try_io_uring,
		.user_namespace = try_user_namespace,
		.landlock = landlock_abi,
		.kernel = try_kernel,
		.rootfs = find_rootfs,
	};
}
