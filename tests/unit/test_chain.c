/* Snapshots against older ones: what is written, what a chain restores, and chains that are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/util.h"
#include "vmm/core/mem.h"
#include "vmm/core/state.h"
#include "vmm/snapshot/chain.h"
#include "vmm/snapshot/diff.h"
#include "vmm/snapshot/memory.h"

#define RAM (64 * MIB)
#define PAGE ((uint64_t)MF_PAGE_SIZE)
#define OTHER_TAG STATE_TAG('v', 'm', ' ', ' ')

static struct mem source, copy;
static struct diff diff;
static int pagemap;
static char top[] = "/tmp/test_chain_XXXXXX", dir[64];
static unsigned number; /* of the test */
static struct err e;

static uint8_t *at(struct mem *m, uint64_t offset)
{
	return m->region[0].host + offset;
}

static void new_copy(void)
{
	mem_done(&copy);
	assert_int_equal(mem_init(&copy, RAM, &e), 0);
}

static int group_setup(void **state)
{
	(void)state;
	pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	return mkdtemp(top) && pagemap >= 0 ? 0 : -1;
}

static int group_teardown(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -r %s", top);
	return system(command);
}

static int setup(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "%s/%u", top, number++);
	assert_int_equal(mkdir(dir, 0700), 0);
	assert_int_equal(mem_init(&source, RAM, &e), 0);
	assert_int_equal(mem_init(&copy, RAM, &e), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	mem_done(&source);
	mem_done(&copy);
	return 0;
}

static const char *path_of(const char *name, const char *file)
{
	static char path[4][256];
	static unsigned next;

	next = (next + 1) % 4;
	snprintf(path[next], sizeof(path[next]), "%s/%s%s%s", dir, name, *file ? "/" : "", file);
	return path[next];
}

static int open_new(const char *name, const char *file, uint64_t size)
{
	int fd = open(path_of(name, file), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

/* Writes `state`: about is what its identity depends on; d may be NULL. */
static void write_state(const char *name, uint32_t about, const struct memory_map *map, const struct diff *d, bool more)
{
	static uint8_t data[1 << 20];
	struct state_out out;
	int fd = open_new(name, "state", 0);

	state_out_init(&out, data, sizeof(data));
	state_begin(&out, OTHER_TAG, 0, 1);
	state_put_u32(&out, about);
	state_end(&out);
	memory_put(map, &out);
	if (d)
		diff_put(d, &out);
	if (more) {
		state_begin(&out, OTHER_TAG, 1, 1);
		state_end(&out);
	}
	assert_true(state_out_finish(&out) > 0);
	assert_int_equal(fdio_write_all(fd, data, out.len), 0);
	close(fd);
}

static int open_chain(struct chain **ret, const char *name)
{
	return chain_open_dir(ret, path_of(name, ""), NULL, &e);
}

/* A complete snapshot of m. */
static void save(struct mem *m, const char *name, uint32_t about)
{
	struct memory_map map;
	int fd;

	assert_int_equal(mkdir(path_of(name, ""), 0700), 0);
	fd = open_new(name, "memory", m->size);
	assert_int_equal(memory_write(m, pagemap, fd, &map), 0);
	close(fd);
	write_state(name, about, &map, NULL, false);
}

/* A diff of m against the snapshot parent. Returns how many pages it has. */
static uint64_t save_diff(struct mem *m, const char *name, uint32_t about, const char *parent, int pagemap_fd)
{
	struct memory_map map;
	struct chain *c;
	int fd;

	assert_int_equal(open_chain(&c, parent), 0);
	assert_int_equal(mkdir(path_of(name, ""), 0700), 0);
	fd = open_new(name, "memory", m->size);
	assert_int_equal(diff_write(m, pagemap_fd, c, fd, &map, &diff), 0);
	close(fd);
	diff.parent = c->layer[0].identity;
	strcpy(diff.path, c->layer[0].dir);
	write_state(name, about, &map, &diff, false);
	chain_free(c);
	return map.pages;
}

static void load(struct mem *m, const char *name)
{
	struct chain *c = NULL;

	if (open_chain(&c, name) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(chain_load(c, m, &e), 0);
	assert_int_equal(chain_check(c, &e), 0);
	chain_free(c);
}

/* Is refused, and the message names file. */
static void expect_refused(const char *name, int code, const char *file)
{
	struct chain *c;

	assert_int_equal(open_chain(&c, name), code);
	if (!strstr(e.text, file))
		fail_msg("no %s in: %s", file, e.text);
}

static void test_three_layers(void **state)
{
	(void)state;
	memset(at(&source, 4 * MIB), 1, 40 * PAGE);
	memset(at(&source, 9 * MIB), 2, PAGE);
	save(&source, "0", 0);
	load(&copy, "0");
	assert_memory_equal(at(&copy, 0), at(&source, 0), RAM);
	memset(at(&copy, 4 * MIB + PAGE), 0, 2 * PAGE); /* data becomes zeros */
	memset(at(&copy, 50 * MIB), 3, PAGE);
	(void)*(volatile uint8_t *)at(&copy, 9 * MIB);		/* is read */
	*(volatile uint8_t *)at(&copy, 4 * MIB + 9 * PAGE) = 1; /* is the same */
	*(volatile uint8_t *)at(&copy, 30 * MIB) = 0;
	assert_int_equal(save_diff(&copy, "1", 1, "0", pagemap), 3);
	assert_int_equal(diff.num_runs, 2);
	memcpy(at(&source, 0), at(&copy, 0), RAM);
	new_copy();
	load(&copy, "1");
	assert_memory_equal(at(&copy, 0), at(&source, 0), RAM);
	memset(at(&copy, 4 * MIB + 2 * PAGE), 4, PAGE); /* zeros of the second one become data again */
	memset(at(&copy, 50 * MIB), 0, PAGE);
	assert_int_equal(save_diff(&copy, "2", 2, "1", pagemap), 2);
	memcpy(at(&source, 0), at(&copy, 0), RAM);
	new_copy();
	load(&copy, "2");
	assert_memory_equal(at(&copy, 0), at(&source, 0), RAM);
}

/* Without pagemap, the same pages differ. */
static void test_without_pagemap(void **state)
{
	(void)state;
	memset(at(&source, 4 * MIB), 1, 40 * PAGE);
	save(&source, "0", 0);
	load(&copy, "0");
	memset(at(&copy, 4 * MIB + 3 * PAGE), 5, PAGE);
	memset(at(&copy, 20 * MIB), 5, PAGE);
	assert_int_equal(save_diff(&copy, "1", 1, "0", -1), 2);
	memcpy(at(&source, 0), at(&copy, 0), RAM);
	new_copy();
	load(&copy, "1");
	assert_memory_equal(at(&copy, 0), at(&source, 0), RAM);
}

/* A fork writes, by the pagemap of the process that it comes from, which goes on. */
static void test_fork(void **state)
{
	int begin[2], status;
	pid_t pid;
	char c;

	(void)state;
	memset(at(&source, 4 * MIB), 1, 40 * PAGE);
	memset(at(&source, 40 * MIB), 1, 40 * PAGE);
	save(&source, "0", 0);
	load(&copy, "0");
	memset(at(&copy, 4 * MIB + 3 * PAGE), 5, PAGE);
	memset(at(&copy, 20 * MIB), 5, PAGE);
	memcpy(at(&source, 0), at(&copy, 0), RAM);
	assert_int_equal(pipe(begin), 0);
	pid = fork();
	if (pid == 0) {
		close(begin[1]);
		(void)!read(begin[0], &c, 1);
		_exit(save_diff(&copy, "1", 1, "0", pagemap) == 2 ? 0 : 1);
	}
	memset(at(&copy, 4 * MIB), 7, 40 * PAGE);
	memset(at(&copy, 20 * MIB), 7, PAGE);
	memset(at(&copy, 30 * MIB), 7, 100 * PAGE);
	close(begin[0]);
	close(begin[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	new_copy();
	load(&copy, "1");
	assert_memory_equal(at(&copy, 0), at(&source, 0), RAM);
}

/* More runs than mappings: small ones are copied, and are no difference for the next one. */
static void test_many_runs(void **state)
{
	(void)state;
	memset(at(&source, 4 * MIB), 1, 4 * MIB);
	save(&source, "0", 0);
	load(&copy, "0");
	for (unsigned i = 0; i < 300; i++)
		memset(at(&copy, 4 * MIB + (3 * i + 1) * PAGE), (int)(i % 200) + 2, PAGE);
	memset(at(&copy, 40 * MIB), 9, 100 * PAGE);
	assert_int_equal(save_diff(&copy, "1", 1, "0", pagemap), 400);
	assert_int_equal(diff.num_runs, 301);
	memcpy(at(&source, 0), at(&copy, 0), RAM);
	new_copy();
	load(&copy, "1");
	assert_memory_equal(at(&copy, 0), at(&source, 0), RAM);
	assert_true(copy.num_files <= MEMORY_RUNS_MAX);
	memset(at(&copy, 4 * MIB), 8, PAGE);
	assert_int_equal(save_diff(&copy, "2", 2, "1", pagemap), 1);
	save(&copy, "3", 3);
	new_copy();
	load(&copy, "3");
	memcpy(at(&source, 4 * MIB), at(&copy, 4 * MIB), PAGE);
	assert_int_equal(*at(&source, 4 * MIB), 8);
	assert_memory_equal(at(&copy, 0), at(&source, 0), RAM);
}

/* More runs than a state has room for: pages of small gaps are written, too. */
static void test_too_many_runs(void **state)
{
	struct mem large, again = { 0 };
	uint64_t pages;

	(void)state;
	assert_int_equal(mem_init(&large, 256 * MIB, &e), 0);
	*at(&large, 0) = 1;
	save(&large, "0", 0);
	for (uint64_t i = 1; i < 256 * MIB / PAGE - 4; i += i < 40000 ? 2 : 4)
		*at(&large, i * PAGE) = (uint8_t)(i % 255 + 1);
	pages = save_diff(&large, "1", 1, "0", pagemap);
	assert_true(diff.num_runs <= DIFF_RUNS_MAX);
	assert_in_range(pages, 20000, 256 * MIB / PAGE);
	assert_int_equal(mem_init(&again, 256 * MIB, &e), 0);
	load(&again, "1");
	assert_memory_equal(at(&again, 0), at(&large, 0), 256 * MIB);
	mem_done(&large);
	mem_done(&again);
}

/* A memory into which somebody has merged the chain. */
static void test_merged_memory(void **state)
{
	struct chain_params p = { .merged = true };
	struct chain *c;
	int fd;

	(void)state;
	memset(at(&source, 4 * MIB), 1, 40 * PAGE);
	save(&source, "0", 0);
	load(&copy, "0");
	memset(at(&copy, 4 * MIB + PAGE), 0, 2 * PAGE);
	memset(at(&copy, 50 * MIB), 3, PAGE);
	save_diff(&copy, "1", 1, "0", pagemap);
	assert_int_equal(mkdir(path_of("all", ""), 0700), 0);
	fd = open_new("all", "memory", 0);
	assert_int_equal(fdio_write_all(fd, at(&copy, 0), RAM), 0);
	close(fd);
	memcpy(at(&source, 0), at(&copy, 0), RAM);
	new_copy();
	p.state = path_of("1", "state");
	p.memory = path_of("all", "memory");
	assert_int_equal(chain_open(&c, &p, &e), 0);
	assert_int_equal(c->num, 1);
	assert_int_equal(chain_load(c, &copy, &e), 0);
	chain_free(c);
	assert_memory_equal(at(&copy, 0), at(&source, 0), RAM);
}

/* A chain of num, from "0". */
static void make_chain(unsigned num)
{
	save(&source, "0", 0);
	for (unsigned i = 1; i < num; i++) {
		char name[16], parent[16];
		struct memory_map map = { .size = RAM };
		struct chain *c;

		snprintf(name, sizeof(name), "%u", i);
		snprintf(parent, sizeof(parent), "%u", i - 1);
		assert_int_equal(chain_open_dir(&c, path_of(parent, ""), NULL, &e), 0);
		assert_int_equal(mkdir(path_of(name, ""), 0700), 0);
		close(open_new(name, "memory", RAM));
		diff = (struct diff){ .parent = c->layer[0].identity };
		strcpy(diff.path, c->layer[0].dir);
		write_state(name, i, &map, &diff, false);
		chain_free(c);
	}
}

static void test_depth(void **state)
{
	struct memory_map map = { .size = RAM };
	struct chain *c;

	(void)state;
	make_chain(16);
	assert_int_equal(open_chain(&c, "15"), 0);
	assert_int_equal(c->num, 16);
	assert_int_equal(chain_check(c, &e), 0);
	assert_int_equal(mkdir(path_of("16", ""), 0700), 0);
	close(open_new("16", "memory", RAM));
	diff.parent = c->layer[0].identity;
	chain_free(c);
	snprintf(diff.path, sizeof(diff.path), "%s/15", dir);
	write_state("16", 16, &map, &diff, false);
	expect_refused("16", -E2BIG, "/1/state");
}

static void test_cycle(void **state)
{
	struct memory_map map = { .size = RAM };
	struct chain *c;

	(void)state;
	make_chain(3);
	/* "0" becomes a diff of "2": an identity does not depend on that. */
	assert_int_equal(open_chain(&c, "2"), 0);
	diff = (struct diff){ .parent = c->layer[0].identity };
	strcpy(diff.path, c->layer[0].dir);
	chain_free(c);
	write_state("0", 0, &map, &diff, false);
	expect_refused("2", -ELOOP, "/2/state");
	expect_refused("0", -ELOOP, "/0/state");
	/* And of itself. */
	write_state("2", 2, &map, &diff, false);
	expect_refused("2", -ELOOP, "/2/state");
}

static void test_other_parents(void **state)
{
	struct memory_map map = { .size = RAM };
	struct chain *c;

	(void)state;
	make_chain(2);
	write_state("0", 77, &map, NULL, false);
	expect_refused("1", -ESTALE, "/0/state");
	write_state("0", 0, &map, NULL, false);
	assert_int_equal(open_chain(&c, "1"), 0);
	chain_free(c);
	/* Of another size, with the same identity. */
	map.size = RAM / 2;
	write_state("0", 0, &map, NULL, false);
	expect_refused("1", -EINVAL, "/0/memory");
	assert_int_equal(truncate(path_of("0", "memory"), RAM / 2), 0);
	expect_refused("1", -EINVAL, "/0/state");
	assert_int_equal(open_chain(&c, "0"), 0);
	assert_int_equal(chain_load(c, &copy, &e), -EINVAL); /* and of another size than the VM's */
	chain_free(c);
	assert_int_equal(unlink(path_of("0", "state")), 0);
	expect_refused("1", -ENOENT, "/0/state");
	assert_int_equal(symlink("/dev/null", path_of("0", "state")), 0);
	expect_refused("1", -ELOOP, "/0/state");
	assert_int_equal(rename(path_of("0", ""), path_of("gone", "")), 0);
	expect_refused("1", -ENOENT, "/0'");
	assert_int_equal(symlink("gone", path_of("0", "")), 0);
	expect_refused("1", -ENOTDIR, "/0'");
}

static void test_bad_sections(void **state)
{
	struct memory_map map = { .size = RAM, .pages = 2 };
	static const struct memory_run bad[][2] = {
		{ { PAGE, PAGE }, { PAGE, PAGE } },	 /* twice */
		{ { 2 * PAGE, PAGE }, { 0, PAGE } },	 /* descending */
		{ { RAM - PAGE, 2 * PAGE }, { 0, 0 } },	 /* beyond the end */
		{ { 0, 2 * PAGE }, { 4 * PAGE, 0 } },	 /* empty */
		{ { 0, 2 * PAGE }, { 4 * PAGE, PAGE } }, /* another number of pages */
	};

	(void)state;
	make_chain(2);
	diff.num_runs = 2;
	for (size_t i = 0; i < MF_ARRAY_SIZE(bad); i++) {
		memcpy(diff.run, bad[i], sizeof(bad[i]));
		write_state("1", 1, &map, &diff, false);
		expect_refused("1", -EINVAL, "/1/state");
	}
	diff.num_runs = 0;
	map.pages = 0;
	write_state("1", 1, &map, &diff, true);
	expect_refused("1", -EINVAL, "/1/state");
	write_state("1", 1, &map, &diff, false);
	load(&copy, "1");
	diff.path[0] = '.'; /* is relative to nothing that would be known */
	write_state("1", 1, &map, &diff, false);
	expect_refused("1", -EINVAL, "/1/state");
	diff.path[0] = '\0';
	write_state("1", 1, &map, &diff, false);
	expect_refused("1", -EINVAL, "/1/state");
}

static void test_check(void **state)
{
	struct chain *c;
	int fd;

	(void)state;
	memset(at(&source, 4 * MIB), 1, PAGE);
	save(&source, "0", 0);
	load(&copy, "0");
	memset(at(&copy, 8 * MIB), 2, PAGE);
	save_diff(&copy, "1", 1, "0", pagemap);
	for (unsigned i = 0; i < 2; i++) {
		const char *name = i ? "1" : "0";

		fd = open(path_of(name, "memory"), O_WRONLY | O_CLOEXEC);
		assert_int_equal(pwrite(fd, "x", 1, (off_t)((i + 1) * 4 * MIB)), 1);
		assert_int_equal(open_chain(&c, "1"), 0);
		assert_int_equal(chain_check(c, &e), -EBADMSG);
		assert_non_null(strstr(e.text, i ? "/1/memory" : "/0/memory"));
		chain_free(c);
		assert_int_equal(pwrite(fd, i ? "\2" : "\1", 1, (off_t)((i + 1) * 4 * MIB)), 1);
		close(fd);
	}
	load(&copy, "1");
}

int main(void)
{
#define ONE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		ONE(test_three_layers),	 ONE(test_without_pagemap), ONE(test_fork),  ONE(test_many_runs),
		ONE(test_too_many_runs), ONE(test_merged_memory),   ONE(test_depth), ONE(test_cycle),
		ONE(test_other_parents), ONE(test_bad_sections),    ONE(test_check),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
