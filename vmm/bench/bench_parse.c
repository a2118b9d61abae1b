/* What `mayfly bench` reads: times of runs, lists of CPUs, versions of kernels. See bench.h. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/parse.h"
#include "vmm/base/util.h"
#include "vmm/bench/bench.h"

#define STEP_NS_MAX (1000000000ULL * 3600 * 24) /* a longer time is none */
#define BLOCK_SIZE (256 * KIB)
#define KERNEL_BYTES_MAX (512 * MIB)

void bench_count(struct bench *b, struct bench_run *run, const char *name, uint64_t value)
{
	unsigned i = 0;

	while (i < b->num_counters && strcmp(b->counter[i], name) != 0)
		i++;
	if (i == b->num_counters) {
		if (i == BENCH_COUNTERS_MAX || strlen(name) >= BENCH_NAME_MAX)
			return;
		strcpy(b->counter[b->num_counters++], name);
	}
	run->counter[i] = value;
	run->has_counter[i] = true;
}

static int find_step(const char *name)
{
	for (int i = 0; name && i < TIMELINE_NUM_STEPS; i++)
		if (strcmp(timeline_step_name((enum timeline_step)i), name) == 0)
			return i;
	return -1;
}

static bool is_counter_name(const char *name)
{
	return *name && name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_")] == '\0';
}

int bench_take_timeline(struct bench *b, struct bench_run *run, const char *text, size_t len, struct err *e)
{
	json_t *root = json_loadb(text, len, 0, NULL), *steps = json_object_get(root, "steps"), *step, *value;
	const json_t *start = json_object_get(root, "start_ns");
	int64_t start_ns = json_integer_value(start), at_ns;
	bool good = json_is_integer(start) && start_ns >= 0 && json_array_size(steps) > 0;
	const char *name;
	size_t i;

	json_array_foreach(steps, i, step) {
		int which = find_step(json_string_value(json_object_get(step, "step")));

		value = json_object_get(step, "at_ns");
		at_ns = json_integer_value(value);
		if (!json_is_integer(value) || which < 0 || at_ns < 0 || (uint64_t)at_ns > STEP_NS_MAX ||
		    __builtin_add_overflow(at_ns, start_ns, &at_ns)) {
			good = false;
			break;
		}
		/* 0 means that there is none; and threads mark for themselves: a time may be a little before another. */
		run->at_ns[which] = (uint64_t)at_ns > run->exec_ns ? (uint64_t)at_ns - run->exec_ns : 1;
	}
	json_object_foreach(json_object_get(root, "kvm"), name, value)
		if (json_is_integer(value) && is_counter_name(name))
			bench_count(b, run, name, (uint64_t)json_integer_value(value));
	json_decref(root);
	return good ? 0 : err_set(e, -EPROTO, "it has left no times");
}

int bench_parse_cpus(const char *text, cpu_set_t *ret, struct err *e)
{
	MF_FREE char *copy = strdup(text);
	char *rest = copy, *part;
	cpu_set_t set;

	CPU_ZERO(&set);
	while (copy && (part = strsep(&rest, ","))) {
		char *dash = strchr(part, '-');
		uint64_t first, last;

		if (dash)
			*dash = '\0';
		if (parse_u64(part, &first) < 0 || parse_u64(dash ? dash + 1 : part, &last) < 0 || first > last ||
		    last >= CPU_SETSIZE)
			return err_set(e, -EINVAL, "must be numbers of CPUs and ranges of them: 0,2-3");
		for (; first <= last; first++)
			CPU_SET((size_t)first, &set);
	}
	if (!copy)
		return err_set(e, -ENOMEM, "out of memory");
	*ret = set;
	return 0;
}

/* Copies the word at text, of printable characters only. Returns false if there is none. */
static bool copy_version(char *ret, size_t size, const char *text, size_t len)
{
	size_t n = 0;

	while (n < len && n < size - 1 && text[n] > ' ' && text[n] < 0x7f)
		n++;
	memcpy(ret, text, n);
	ret[n] = '\0';
	return n > 0 && *ret >= '0' && *ret <= '9';
}

/* Linux, arch/x86/boot/header.S: "HdrS" at 0x202; at 0x20e, where the version is, less 0x200. */
static bool bzimage_version(const char *block, size_t len, char *ret, size_t size)
{
	size_t at;

	if (len < 0x210 || memcmp(block + 0x202, "HdrS", 4) != 0)
		return false;
	at = (size_t)(uint8_t)block[0x20e] + ((size_t)(uint8_t)block[0x20f] << 8) + 0x200;
	return at < len && copy_version(ret, size, block + at, len - at);
}

bool bench_kernel_version(const char *path, char *ret, size_t size)
{
	static const char banner[] = "Linux version ";
	const size_t overlap = sizeof(banner) - 1 + size;
	MF_FREE char *block = malloc(BLOCK_SIZE);
	uint64_t file_size;
	struct err ignored;
	MF_CLOSE int fd = fdio_open_file(path, O_RDONLY, false, &file_size, &ignored);
	ssize_t n;

	*ret = '\0';
	if (fd < 0 || !block || overlap >= BLOCK_SIZE)
		return false;
	for (uint64_t at = 0; at < KERNEL_BYTES_MAX; at += BLOCK_SIZE - overlap) {
		const char *found = block;

		n = fdio_pread(fd, block, BLOCK_SIZE, at);
		if (n <= 0)
			break;
		if (at == 0 && bzimage_version(block, (size_t)n, ret, size))
			return true;
		while ((found = memmem(found, (size_t)(block + n - found), banner, sizeof(banner) - 1))) {
			found += sizeof(banner) - 1;
			if ((size_t)n == BLOCK_SIZE && (size_t)(block + n - found) < size)
				break; /* its end may be in the next block, which has all of it */
			if (copy_version(ret, size, found, (size_t)(block + n - found)))
				return true;
		}
		if ((size_t)n < BLOCK_SIZE)
			break;
	}
	*ret = '\0';
	return false;
}
