/*
 * labinit: PID 1 of the lab, the emulated machine that tests/lab/lab runs commands on. This file has the machine, labctl.c
 * the talk with the host, labrun.c the command.
 *
 * Theory of operation
 *
 * Boot phase, once per template: mount the kernel's file systems, load the modules of /mods/order, open the
 * virtio-serial ports, say "READY" on port "ctl" and block in a read of it. That is where the state of the machine is
 * saved: nothing that stands in the way of saving it (a mounted 9p) may exist by then.
 *
 * Run phase, in every restored machine: the host answers with a line, and a list of strings, each ended by a NUL:
 *
 *	GO <seconds> <nanoseconds> <input> <rows> <columns> <directories> <variables> <arguments>
 *	<working directory> <directory>... <variable>... <argument>...
 *
 * with <input> one of enum input. The clock is set, the host's file system is mounted (9p, read-only) under an
 * overlay whose upper layer is a tmpfs, each of the directories is mounted on top at its own path, and the command is
 * started. Its output goes to the ports "std" and "err", its input comes from "std"; with a terminal all three are one
 * pty. "STARTED" tells the host, which may then send
 *
 *	EOF <bytes>		the command's input ends after so many bytes
 *	SIZE <rows> <columns>	the terminal has a new size
 *	PING			nothing: it only has to come
 *
 * At the end "EXIT <status> <bytes on std> <bytes on err>" goes out. A write to a virtio-serial port returns before the
 * host has taken the bytes, so the machine lives on until the host, having seen all of them, says "BYE".
 *
 * Anything else that is said on "ctl" is a complaint, which the host shows to the user.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "tests/lab/labinit.h"

#define P9_OPTIONS "trans=virtio,version=9p2000.L,msize=1048576"

/* 0, or -1 after a message: some kernels lack some file systems, and most commands do not need all of them. */
static int mount_at(const char *source, const char *target, const char *type, unsigned long flags, const char *options)
{
	(void)mkdir(target, 0755); /* usually there; mount() reports the rest */
	if (mount(source, target, type, flags, options)) {
		say("lab: mount %s on %s: %s\n", type, target, strerror(errno));
		return -1;
	}
	return 0;
}

/* A setting of /proc or /sys; one that this kernel does not have is none. */
static void set(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, value, strlen(value)) < 0)
		say("lab: %s: %s\n", path, strerror(errno));
	(void)close(fd);
}

/* Each line of /mods/order is "NAME" or "NAME PARAMETERS". The files are removed on the way: they are in RAM. */
static void load_modules(void)
{
	char line[LINE_MAX_BYTES], path[LINE_MAX_BYTES + 16];
	FILE *order = fopen("/mods/order", "re");

	if (!order)
		fail("/mods/order");
	while (fgets(line, sizeof(line), order)) {
		line[strcspn(line, "\n")] = '\0';
		char *parameters = strchr(line, ' ');
		if (parameters)
			*parameters++ = '\0';
		(void)snprintf(path, sizeof(path), "/mods/%s.ko", line);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || (syscall(SYS_finit_module, fd, parameters ? parameters : "", 0) && errno != EEXIST))
			say("lab: module %s: %s\n", line, strerror(errno));
		if (fd >= 0)
			(void)close(fd);
		(void)unlink(path);
	}
	(void)fclose(order); /* only read from */
}

/*
 * Keeps a VM with one vCPU, which never runs, for as long as the lab lives. KVM switches static keys, that is it patches
 * the kernel's text, when the first VM and the first local APIC come and when the last ones go. QEMU's emulation with a
 * thread per CPU may go on executing the int3 of such a patch after it is gone: then both CPUs trap without end. Seen once
 * in some thousand VMs, and the whole lab hung.
 */
static void hold_kvm(void)
{
	struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { 24 } };
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);

	/* Both stay open. */
	if (vm < 0 || ioctl(vm, KVM_ENABLE_CAP, &split) || ioctl(vm, KVM_CREATE_VCPU, 0) < 0)
		say("lab: no VM to hold: %s\n", strerror(errno));
}

static void loopback_up(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request))
		say("lab: lo: %s\n", strerror(errno));
	if (fd >= 0)
		(void)close(fd);
}

/* The machine before any of the host is visible on it. */
static void boot(void)
{
	static const char *const links[][2] = {
		{ "/proc/self/fd", "/dev/fd" },
		{ "/proc/self/fd/0", "/dev/stdin" },
		{ "/proc/self/fd/1", "/dev/stdout" },
		{ "/proc/self/fd/2", "/dev/stderr" },
	};

	(void)mount_at("dev", "/dev", "devtmpfs", 0, NULL);
	(void)mount_at("proc", "/proc", "proc", 0, NULL);
	(void)mount_at("sys", "/sys", "sysfs", 0, NULL);
	if (iopl(3))
		fail("iopl");
	load_modules();
	loopback_up();
	/* Without favordynmods KVM_CREATE_VM waits 11 ms for RCU in attaching a kernel thread to a cgroup. */
	(void)mount_at("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, "nsdelegate,favordynmods");
	(void)mount_at("devpts", "/dev/pts", "devpts", 0, "gid=5,mode=620,ptmxmode=666");
	(void)mount_at("shm", "/dev/shm", "tmpfs", 0, "mode=1777");
	(void)mount_at("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
	(void)mount_at("tracefs", "/sys/kernel/tracing", "tracefs", 0, NULL);
	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
		(void)symlink(links[i][0], links[i][1]); /* a shell's <(...) fails by itself without them */
	(void)mkdir("/dev/net", 0755);
	(void)mknod("/dev/net/tun", S_IFCHR | 0666, makedev(10, 200)); /* devtmpfs may have made it */
	(void)chmod("/dev/net/tun", 0666);
	(void)chmod("/dev/kvm", 0666);
	set("/sys/fs/cgroup/cgroup.subtree_control", "+cpu +memory +io +pids");
	set("/proc/sys/kernel/perf_event_paranoid", "-1");
	set("/proc/sys/kernel/kptr_restrict", "0");
	set("/proc/sys/kernel/printk", "4 4 1 7");
	set("/proc/sys/vm/unprivileged_userfaultfd", "1");
	(void)sethostname("lab", 3);
	hold_kvm();
	if (mount_at("tmpfs", "/m", "tmpfs", 0, "mode=755,size=75%"))
		fail("/m");
}

/* Makes the host's file system the root, copy-on-write, as a real root: chroot, unshare and pivot_root work on it. */
static void mount_host(const struct job *job)
{
	static const char *const moved[] = { "/proc", "/sys", "/dev" };
	char path[4200], tag[16];

	if (mount_at("host", "/m/lower", "9p", MS_RDONLY | MS_NOATIME, P9_OPTIONS ",cache=loose"))
		fail("the host's file system");
	if (mkdir("/m/up", 0755) || mkdir("/m/work", 0755) ||
	    mount_at("overlay", "/m/root", "overlay", MS_NOATIME, "lowerdir=/m/lower,upperdir=/m/up,workdir=/m/work"))
		fail("overlay");
	for (size_t i = 0; i < sizeof(moved) / sizeof(moved[0]); i++) {
		(void)snprintf(path, sizeof(path), "/m/root%s", moved[i]);
		(void)mkdir(path, 0755); /* usually there; mount() reports the rest */
		if (mount(moved[i], path, NULL, MS_MOVE, NULL))
			fail(path);
	}
	if (mount_at("tmpfs", "/m/root/run", "tmpfs", MS_NOSUID, "mode=755"))
		fail("/run");
	for (unsigned i = 0; i < job->dirs; i++) {
		(void)snprintf(path, sizeof(path), "/m/root%s", job->dir[i]);
		(void)snprintf(tag, sizeof(tag), "rw%u", i);
		if (mount_at(tag, path, "9p", 0, P9_OPTIONS ",cache=mmap"))
			fail(path);
	}
	if (chdir("/m/root") || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
		fail("root");
}

int main(void)
{
	struct job job;

	boot();
	ctl_open();
	int std = port_open("std"), err = port_open("err");
	say("READY\n");
	ctl_job(&job);
	if (clock_settime(CLOCK_REALTIME, &job.now))
		say("lab: setting the clock: %s\n", strerror(errno));
	mount_host(&job);
	run_job(&job, std, err);
}
