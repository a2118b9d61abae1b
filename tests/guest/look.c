/*
 * What a program sees that runs in a jail: a static binary, which says it line by line on stdout, or in the file /run/look
 * with `--out` among its arguments. With `--stay` it then waits to be ended.
 *
 *	arg 0 /look			its arguments
 *	env NAME=VALUE			its environment
 *	cwd /				user R E S, group R E S, groups N
 *	caps EFFECTIVE PERMITTED INHERITABLE, nnp N, dumpable N
 *	pid N, ppid N, leader N		whether it leads its session
 *	fd N KIND			open files
 *	limit NAME SOFT HARD		cpus N: that it may run on
 *	net NAME			network interfaces
 *	file KIND MODE UID:GID MAJOR:MINOR PATH
 *	open PATH REASON		what comes of opening the devices
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <net/if.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define LIFE_S 300 /* then it ends: nothing is left of a test that has failed */
#define FDS 65536
#define PATH_SIZE 4096

static char kind_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return 'd';
	case S_IFREG:
		return 'f';
	case S_IFCHR:
		return 'c';
	case S_IFIFO:
		return 'p';
	case S_IFSOCK:
		return 's';
	case S_IFLNK:
		return 'l';
	default:
		return '?';
	}
}

static void say_user(FILE *out)
{
	uid_t uid[3] = { 0 };
	gid_t gid[3] = { 0 };

	if (getresuid(&uid[0], &uid[1], &uid[2]) < 0 || getresgid(&gid[0], &gid[1], &gid[2]) < 0)
		fprintf(out, "user unknown\n");
	fprintf(out, "user %u %u %u\ngroup %u %u %u\ngroups %d\n", uid[0], uid[1], uid[2], gid[0], gid[1], gid[2],
		getgroups(0, NULL));
}

static void say_privileges(FILE *out)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct c[_LINUX_CAPABILITY_U32S_3] = { 0 };

	if (syscall(SYS_capget, &head, c) < 0)
		fprintf(out, "caps unknown\n");
	fprintf(out, "caps %x%08x %x%08x %x%08x\n", c[1].effective, c[0].effective, c[1].permitted, c[0].permitted,
		c[1].inheritable, c[0].inheritable);
	fprintf(out, "nnp %d\n", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	fprintf(out, "dumpable %d\n", prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
}

static void say_process(FILE *out)
{
	cpu_set_t cpus;

	fprintf(out, "pid %d\nppid %d\nleader %d\n", getpid(), getppid(), getsid(0) == getpid());
	if (sched_getaffinity(0, sizeof(cpus), &cpus) == 0)
		fprintf(out, "cpus %d\n", CPU_COUNT(&cpus));
}

static void say_fds(FILE *out)
{
	struct stat st;

	for (int fd = 0; fd < FDS; fd++) {
		if (fstat(fd, &st) == 0 && fd != fileno(out))
			fprintf(out, "fd %d %c\n", fd, kind_of(st.st_mode));
	}
}

static void say_limit(FILE *out, const char *name, int resource)
{
	struct rlimit r;

	if (getrlimit(resource, &r) == 0)
		fprintf(out, "limit %s %lld %lld\n", name, (long long)r.rlim_cur, (long long)r.rlim_max);
}

static void say_net(FILE *out)
{
	struct if_nameindex *list = if_nameindex();

	for (struct if_nameindex *i = list; i && i->if_index; i++)
		fprintf(out, "net %s\n", i->if_name);
	if (list)
		if_freenameindex(list);
}

static void say_files(FILE *out, const char *dir)
{
	DIR *d = opendir(dir);
	char path[PATH_SIZE];
	struct dirent *entry;
	struct stat st;

	if (!d) {
		fprintf(out, "file unreadable %s\n", dir);
		return;
	}
	while ((entry = readdir(d))) {
		if (!strcmp(entry->d_name, "..") || (!strcmp(entry->d_name, ".") && strcmp(dir, "/") != 0))
			continue;
		snprintf(path, sizeof(path), "%s%s%s", dir, dir[1] ? "/" : "", entry->d_name);
		if (lstat(path, &st) < 0)
			continue;
		fprintf(out, "file %c %04o %u:%u %u:%u %s\n", kind_of(st.st_mode), st.st_mode & 07777, st.st_uid,
			st.st_gid, S_ISCHR(st.st_mode) ? major(st.st_rdev) : 0,
			S_ISCHR(st.st_mode) ? minor(st.st_rdev) : 0, path);
		if (S_ISDIR(st.st_mode) && strcmp(entry->d_name, ".") != 0)
			say_files(out, path);
	}
	closedir(d);
}

static void say_opens(FILE *out)
{
	static const char *const paths[] = { "/dev/kvm", "/dev/net/tun", "/dev/urandom", "/look" };

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		int fd = open(paths[i], i == 3 ? O_WRONLY : O_RDWR);

		fprintf(out, "open %s %s\n", paths[i], fd < 0 ? strerror(errno) : "Success");
		if (fd >= 0)
			close(fd);
	}
}

int main(int argc, char **argv, char **env)
{
	bool to_file = false, stay = false;
	char cwd[PATH_SIZE];
	FILE *out = stdout;

	alarm(LIFE_S);
	for (int i = 1; i < argc; i++) {
		to_file |= !strcmp(argv[i], "--out");
		stay |= !strcmp(argv[i], "--stay");
	}
	if (to_file)
		out = fopen("/run/look.new", "w");
	if (!out)
		return 1;
	for (int i = 0; i < argc; i++)
		fprintf(out, "arg %d %s\n", i, argv[i]);
	for (; *env; env++)
		fprintf(out, "env %s\n", *env);
	fprintf(out, "cwd %s\n", getcwd(cwd, sizeof(cwd)) ? cwd : "unknown");
	say_user(out);
	say_privileges(out);
	say_process(out);
	say_fds(out);
	say_limit(out, "no-file", RLIMIT_NOFILE);
	say_limit(out, "fsize", RLIMIT_FSIZE);
	say_net(out);
	say_files(out, "/");
	say_opens(out);
	if (fflush(out) == EOF || (to_file && (fclose(out) == EOF || rename("/run/look.new", "/run/look") < 0)))
		return 1;
	if (stay)
		pause();
	return 7;
}
