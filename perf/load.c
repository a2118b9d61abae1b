/*
 * The load of perf/disk, perf/net and perf/live: the guest's /init, and on the host the other end of its connections.
 *
 *	load TIMES JOB...	as PID 1, from the kernel command line: runs the jobs in turn, TIMES times, and reboots
 *	load run TIMES JOB...	in a guest with another init
 *	load serve ADDRESS...	on the host; ADDRESS is tcp:PORT, vsock:PORT or unix:PATH; see load_net.c
 *
 * Jobs. OPS is how many operations, after WARM that are not counted.
 *
 *	disk:rand|seq:read|write:BYTES:DEPTH:OPS	requests of BYTES at /dev/vda by O_DIRECT, DEPTH at a time
 *	sync:BYTES:OPS					a write and an fsync, OPS times
 *	net:send|receive|echo:tcp|vsock:BYTES:OPS	a stream of OPS times BYTES, or OPS round trips of BYTES
 *	files:create|stat|read:BYTES:OPS		OPS new files of BYTES, or the files 0 to OPS - 1 of the host, in /d
 *	files:put|get:BYTES:OPS				a stream of OPS times BYTES to a new file, or from /d/stream
 *	mount:TAG					no job: mounts /d by the virtio transport of 9P
 *
 * The beginning and the end of job number N are marked by CPUID, leaf MARK + 2 N and the one after, which always leaves
 * the guest: so the host's KVM tells when they were (tracepoint kvm_cpuid), by its own clock, whatever the monitor does.
 * The console has a line "job N OPS NANOSECONDS" for each, by the guest's clock.
 */
#include "perf/load.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <time.h>
#include <unistd.h>

#define MARK 0x4d594c00U
#define DEPTH_MAX 128
#define BYTES_MAX (1024 * 1024)
#define WARM_OPS 64
#define JOB_MAX 128

static unsigned number; /* of the job */
static struct timespec began, ended;

void load_die(const char *what)
{
	printf("load: job %u: %s: %s\n", number, what, strerror(errno));
	fflush(stdout);
	if (getpid() == 1)
		reboot(RB_AUTOBOOT);
	exit(1);
}

static void mark(uint32_t leaf)
{
	uint32_t b, c = 0, d;

	__asm__ volatile("cpuid" : "+a"(leaf), "=b"(b), "+c"(c), "=d"(d)::"memory");
}

void load_begin(void)
{
	clock_gettime(CLOCK_MONOTONIC, &began);
	mark(MARK + 2 * number);
}

void load_end(void)
{
	mark(MARK + 2 * number + 1);
	clock_gettime(CLOCK_MONOTONIC, &ended);
}

static int open_drive(uint64_t *ret_size)
{
	int fd = open("/dev/vda", O_RDWR | O_DIRECT | O_CLOEXEC);
	off_t size;

	if (fd < 0)
		load_die("/dev/vda");
	size = lseek(fd, 0, SEEK_END);
	if (size <= 0)
		load_die("size of /dev/vda");
	*ret_size = (uint64_t)size;
	return fd;
}

static char *make_buffer(size_t size)
{
	char *buf = aligned_alloc(4096, size);

	if (!buf)
		load_die("memory");
	memset(buf, 0x5a, size);
	return buf;
}

struct disk {
	struct io_uring ring;
	int fd;
	char *buf;
	uint64_t blocks, next, random; /* blocks of the drive */
	uint32_t bytes;
	bool write, sequential;
};

static uint64_t next_block(struct disk *d)
{
	if (d->sequential)
		return d->next++ % d->blocks;
	/* xorshift64: the same row in every guest. */
	d->random ^= d->random << 13;
	d->random ^= d->random >> 7;
	d->random ^= d->random << 17;
	return d->random % d->blocks;
}

static void disk_start(struct disk *d, unsigned slot)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&d->ring);
	uint64_t offset = next_block(d) * d->bytes;
	char *buf = d->buf + (size_t)slot * d->bytes;

	if (d->write)
		io_uring_prep_write(sqe, d->fd, buf, d->bytes, offset);
	else
		io_uring_prep_read(sqe, d->fd, buf, d->bytes, offset);
	sqe->user_data = slot;
}

/* ops requests, depth of them at a time, until all are done. */
static void disk_run(struct disk *d, unsigned depth, uint64_t ops)
{
	uint64_t started = 0, done = 0;
	struct io_uring_cqe *cqe;
	unsigned head, num;

	for (; started < depth && started < ops; started++)
		disk_start(d, (unsigned)started);
	while (done < ops) {
		if (io_uring_submit_and_wait(&d->ring, 1) < 0)
			load_die("io_uring");
		num = 0;
		io_uring_for_each_cqe(&d->ring, head, cqe) {
			if (cqe->res != (int)d->bytes) {
				errno = cqe->res < 0 ? -cqe->res : EIO;
				load_die("request");
			}
			num++;
			if (started < ops) {
				disk_start(d, (unsigned)cqe->user_data);
				started++;
			}
		}
		io_uring_cq_advance(&d->ring, num);
		done += num;
	}
}

void disk_job(struct job *job)
{
	unsigned depth = (unsigned)job->num[4];
	struct disk d = {
		.random = 88172645463325252,
		.bytes = (uint32_t)job->num[3],
		.write = !strcmp(job->word[2], "write"),
		.sequential = !strcmp(job->word[1], "seq"),
	};
	uint64_t size;

	errno = EINVAL;
	if (depth == 0 || depth > DEPTH_MAX || d.bytes % 512 || d.bytes == 0 || d.bytes > BYTES_MAX)
		load_die("depth or size");
	d.fd = open_drive(&size);
	d.blocks = size / d.bytes;
	d.buf = make_buffer((size_t)depth * d.bytes);
	if (io_uring_queue_init(DEPTH_MAX, &d.ring, 0) < 0)
		load_die("io_uring_setup");
	job->ops = job->num[5];
	disk_run(&d, depth, WARM_OPS);
	load_begin();
	disk_run(&d, depth, job->ops);
	load_end();
	io_uring_queue_exit(&d.ring);
	free(d.buf);
	close(d.fd);
}

static void sync_job(struct job *job)
{
	uint64_t size, bytes = job->num[1];
	int fd = open_drive(&size);
	char *buf = make_buffer(bytes);

	job->ops = job->num[2];
	for (uint64_t i = 0; i < job->ops + WARM_OPS; i++) {
		if (i == WARM_OPS)
			load_begin();
		if (pwrite(fd, buf, bytes, (off_t)(i * 7919 % (size / bytes) * bytes)) != (ssize_t)bytes || fsync(fd))
			load_die("write and fsync");
	}
	load_end();
	free(buf);
	close(fd);
}

static void run_job(const char *whole)
{
	char copy[JOB_MAX], *text = copy;
	struct job job = { .ops = 0 };
	unsigned num = 0;

	strncpy(copy, whole, sizeof(copy) - 1);
	copy[sizeof(copy) - 1] = '\0';

	for (char *word; num < LOAD_WORDS_MAX && (word = strsep(&text, ":")); num++) {
		job.word[num] = word;
		job.num[num] = strtoull(word, NULL, 10);
	}
	for (; num < LOAD_WORDS_MAX; num++)
		job.word[num] = "";
	if (!strcmp(job.word[0], "mount")) {
		files_mount(job.word[1]);
		return;
	}
	if (!strcmp(job.word[0], "disk"))
		disk_job(&job);
	else if (!strcmp(job.word[0], "sync"))
		sync_job(&job);
	else if (!strcmp(job.word[0], "net"))
		net_job(&job);
	else if (!strcmp(job.word[0], "files"))
		files_job(&job);
	else
		load_die(job.word[0]);
	printf("job %u %llu %lld\n", number, (unsigned long long)job.ops,
	       (ended.tv_sec - began.tv_sec) * 1000000000LL + ended.tv_nsec - began.tv_nsec);
	fflush(stdout);
	number++;
}

static void run_jobs(char **words, int num)
{
	for (unsigned long times = num > 0 ? strtoul(words[0], NULL, 10) : 0; times > 0; times--)
		for (int i = 1; i < num; i++)
			run_job(words[i]);
}

int main(int argc, char **argv)
{
	if (argc > 2 && !strcmp(argv[1], "serve"))
		return net_serve(argv + 2, argc - 2);
	if (argc > 2 && !strcmp(argv[1], "run")) {
		run_jobs(argv + 2, argc - 2);
		return 0;
	}
	if (getpid() != 1) {
		fputs("usage: load serve ADDRESS... | run TIMES JOB..., or as PID 1\n", stderr);
		return 1;
	}
	if (mount("dev", "/dev", "devtmpfs", 0, NULL) < 0 && errno != EBUSY)
		load_die("mount /dev");
	run_jobs(argv + 1, argc - 1);
	return reboot(RB_AUTOBOOT);
}
