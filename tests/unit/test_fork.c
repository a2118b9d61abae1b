/* Memory that VMs share with one that runs: layers, their sections, and those that are refused. */
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
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/util.h"
#include "vmm/core/mem.h"
#include "vmm/core/state.h"
#include "vmm/snapshot/fork.h"
#include "vmm/snapshot/memory.h"

#define RAM (16 * MIB)
#define PAGE ((uint64_t)MF_PAGE_SIZE)
#define OTHER_TAG STATE_TAG('v', 'm', ' ', ' ')

static char path[] = "/tmp/test_fork_XXXXXX";
static uint8_t data[1 << 20];
static struct err e;

static int new_memory(uint64_t size)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

/* A memory with text at the beginning of each run. */
static int written(const char *text, const struct memory_run *run, unsigned num)
{
	int fd = new_memory(RAM);

	for (unsigned i = 0; i < num; i++)
		assert_int_equal(fdio_pwrite_all(fd, text, strlen(text) + 1, run[i].offset), 0);
	return fd;
}

static void write_file(int64_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(len > 0 && fd >= 0);
	assert_int_equal(fdio_write_all(fd, data, (size_t)len), 0);
	close(fd);
}

static void begin_state(struct state_out *out)
{
	state_out_init(out, data, sizeof(data));
	state_begin(out, OTHER_TAG, 0, 1);
	state_put_u64(out, 7);
	state_end(out);
}

/* A state of one layer, with such values. */
static void write_layer(unsigned number, uint64_t size, uint32_t says, uint32_t num, const uint32_t *pages)
{
	struct state_out out;

	begin_state(&out);
	state_begin(&out, FORK_TAG, number, FORK_VERSION);
	state_put_u64(&out, size);
	state_put_u32(&out, says);
	for (uint32_t i = 0; i < 2 * num; i++)
		state_put_u32(&out, pages[i]);
	state_end(&out);
	write_file(state_out_finish(&out));
}

static void refused(unsigned num, int code, const char *text)
{
	int fd[CHAIN_MAX + 1] = { 0 };
	struct chain *c = NULL;

	for (unsigned i = 0; i < num; i++)
		fd[i] = new_memory(RAM);
	assert_int_equal(fork_open(&c, path, fd, num, &e), code);
	assert_null(c);
	assert_non_null(strstr(e.text, text));
	for (unsigned i = 0; i < num; i++)
		assert_int_equal(fcntl(fd[i], F_GETFD), -1); /* it has taken them over */
}

static const struct memory_run old_runs[] = { { 0, 4 * PAGE }, { 2 * MIB, 2 * PAGE } };
static const struct memory_run new_runs[] = { { PAGE, PAGE }, { 4 * MIB, PAGE } };

static struct chain *two_layers(void)
{
	struct chain *c = NULL;

	assert_int_equal(fork_add(&c, written("old", old_runs, 2), RAM, old_runs, 2, &e), 0);
	assert_int_equal(fork_add(&c, written("new", new_runs, 2), RAM, new_runs, 2, &e), 0);
	assert_int_equal(c->num, 2);
	assert_true(c->live);
	assert_int_equal(fork_count_runs(c), 4);
	return c;
}

static void test_round_trip(void **state)
{
	struct chain *c = two_layers(), *again;
	int fd[] = { dup(c->layer[0].fd), dup(c->layer[1].fd) };
	struct state_out out;
	struct state_raw raw;
	struct mem m;

	(void)state;
	begin_state(&out);
	fork_put(c, &out);
	write_file(state_out_finish(&out));
	assert_int_equal(fork_open(&again, path, fd, 2, &e), 0);
	assert_true(again->live);
	assert_true(state_next(&again->in, &raw));
	assert_int_equal(raw.tag, OTHER_TAG);
	assert_false(state_next(&again->in, &raw)); /* a reader of the rest does not see them */
	assert_int_equal(mem_init(&m, RAM, &e), 0);
	assert_int_equal(chain_load(again, &m, &e), 0);
	assert_string_equal((char *)mem_at(&m, 0, 4), "old");
	assert_string_equal((char *)mem_at(&m, PAGE, 4), "new");
	assert_string_equal((char *)mem_at(&m, 2 * MIB, 4), "old");
	assert_string_equal((char *)mem_at(&m, 4 * MIB, 4), "new");
	assert_int_equal(*(char *)mem_at(&m, 6 * MIB, 1), 0);
	mem_done(&m);
	chain_free(again);
	chain_free(c);
}

static void test_too_many(void **state)
{
	struct chain *c = NULL;
	int fd = new_memory(RAM);

	(void)state;
	for (unsigned i = 0; i < CHAIN_MAX; i++)
		assert_int_equal(fork_add(&c, new_memory(RAM), RAM, new_runs, 2, &e), 0);
	assert_int_equal(fork_add(&c, fd, RAM, new_runs, 2, &e), -E2BIG);
	assert_int_equal(c->num, CHAIN_MAX);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC); /* still ours */
	assert_int_equal(fork_replace(c, fd, RAM, old_runs, 2, &e), 0);
	assert_int_equal(c->num, 1);
	assert_int_equal(fork_count_runs(c), 2);
	assert_int_equal(c->layer[0].fd, fd);
	assert_int_equal(c->layer[1].fd, -1);
	chain_free(c);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
}

static void test_refused(void **state)
{
	static const uint32_t good[] = { 0, 1, 2, 1 }, empty[] = { 0, 0 }, back[] = { 2, 1, 0, 1 },
			      outside[] = { RAM / MF_PAGE_SIZE, 1 }, long_one[] = { 1, UINT32_MAX };
	struct state_out out;

	(void)state;
	write_layer(0, RAM, 2, 2, good);
	refused(0, -EINVAL, "1 to 16 memories");
	refused(CHAIN_MAX + 1, -EINVAL, "1 to 16 memories");
	refused(2, -ENOTSUP, "section 'fork' 1 is missing");
	write_layer(1, RAM, 2, 2, good);
	refused(1, -ENOTSUP, "where this mayfly expects 'fork' 0");
	write_layer(0, RAM, 3, 2, good);
	refused(1, -EINVAL, "number of runs");
	write_layer(0, RAM, UINT32_MAX, 2, good);
	refused(1, -EINVAL, "number of runs");
	write_layer(0, RAM + 1, 2, 2, good);
	refused(1, -EINVAL, "size of memory");
	write_layer(0, RAM, 1, 1, empty);
	refused(1, -EINVAL, "a run of memory");
	write_layer(0, RAM, 2, 2, back);
	refused(1, -EINVAL, "a run of memory");
	write_layer(0, RAM, 1, 1, outside);
	refused(1, -EINVAL, "a run of memory");
	write_layer(0, RAM, 1, 1, long_one);
	refused(1, -EINVAL, "a run of memory");
	write_layer(0, 2 * RAM, 2, 2, good);
	refused(1, -EINVAL, "descriptor");
	begin_state(&out);
	write_file(state_out_finish(&out));
	refused(1, -EINVAL, "no section of shared memory");
	assert_int_equal(truncate(path, 5), 0);
	refused(1, -EBADMSG, path);
	assert_int_equal(unlink(path), 0);
	refused(1, -ENOENT, path);
}

/* RAM that is shared has what it had when it is private, and the two go their ways. */
static void test_unshare(void **state)
{
	struct memory_map map;
	struct mem m;
	char text[4];
	int fd, other = new_memory(RAM);

	(void)state;
	assert_int_equal(mem_init(&m, RAM, &e), 0);
	assert_int_equal(mem_share(&m, &e), 0);
	assert_int_equal(mem_map_file(&m, 0, other, 0, PAGE, &e), -EOPNOTSUPP);
	strcpy(mem_at(&m, 3 * MIB, 4), "abc");
	strcpy(mem_at(&m, RAM - PAGE, 4), "end");
	assert_int_equal(memory_find(&map, m.shared_fd, RAM), 0);
	assert_int_equal(map.size, RAM);
	assert_int_equal(map.num_runs, 2);
	assert_int_equal(map.run[0].offset, 3 * MIB);
	assert_int_equal(map.run[1].offset + map.run[1].len, RAM);
	mem_drain(&m);
	assert_string_equal((char *)mem_at(&m, 3 * MIB, 4), "abc");
	strcpy(mem_at(&m, 8 * MIB, 4), "new");
	assert_int_equal(memory_find_more(&map, m.shared_fd), 0);
	assert_int_equal(map.num_runs, 3);
	assert_int_equal(map.run[1].offset, 8 * MIB);
	assert_int_equal(memory_find_more(&map, m.shared_fd), 0);
	assert_int_equal(map.num_runs, 3);
	fd = mem_unshare(&m);
	assert_true(fd >= 0 && !m.shared);
	assert_int_equal(mem_map_empty(&m, 0, RAM, &e), 0);
	assert_int_equal(*(char *)mem_at(&m, 3 * MIB, 1), 0);
	for (unsigned i = 0; i < map.num_runs; i++)
		assert_int_equal(mem_map_offset(&m, map.run[i].offset, fd, map.run[i].offset, map.run[i].len, &e), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0); /* no mapping writes to it */
	assert_string_equal((char *)mem_at(&m, 3 * MIB, 4), "abc");
	assert_string_equal((char *)mem_at(&m, RAM - PAGE, 4), "end");
	strcpy(mem_at(&m, 3 * MIB, 4), "xyz");
	assert_int_equal(fdio_pread_all(fd, text, 4, 3 * MIB), 0);
	assert_string_equal(text, "abc");
	mem_done(&m);
	close(fd);
	fd = new_memory(RAM);
	assert_int_equal(memory_find(&map, fd, RAM), 0);
	assert_int_equal(map.num_runs, 0);
	close(fd);
	close(other);
}

static int group_setup(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	return fd < 0 ? -1 : close(fd);
}

static int group_teardown(void **state)
{
	(void)state;
	(void)unlink(path); /* a test has removed it */
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_unshare),
	};

	return cmocka_run_group_tests_name("fork", tests, group_setup, group_teardown);
}
