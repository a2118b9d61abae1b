/* Merging a chain into one complete snapshot; see chain.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/util.h"
#include "vmm/core/mem.h"
#include "vmm/snapshot/chain.h"

/* As if a VM had been restored, and a complete snapshot of it been taken. */
static int merge_memory(const struct chain *c, int fd, struct memory_map *ret, struct err *e)
{
	MF_CLOSE int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC); /* it does without */
	struct mem m = { 0 };
	int r = mem_init(&m, c->layer[0].map.size, e);

	if (!r)
		r = chain_load(c, &m, e);
	if (!r) {
		r = memory_write(&m, pagemap, fd, ret);
		r = r < 0 ? err_neg(e, r, "write the memory") : 0;
	}
	mem_done(&m);
	return r;
}

/* The sections of the first one, with another one for the memory. */
static int merge_state(const struct chain *c, const struct memory_map *map, int fd, struct err *e)
{
	MF_FREE uint8_t *data = malloc(STATE_MAX);
	struct state_in in = c->in; /* which has no `diff` */
	struct state_out out;
	struct state_raw raw;
	int64_t len;
	int r;

	if (!data)
		return err_set(e, -ENOMEM, "out of memory");
	state_out_init(&out, data, STATE_MAX);
	while (state_next(&in, &raw)) {
		if (raw.tag == MEMORY_TAG)
			memory_put(map, &out);
		else
			state_put_raw(&out, &raw);
	}
	len = state_out_finish(&out);
	r = len < 0 ? (int)len : fdio_write_all(fd, data, (size_t)len);
	return r < 0 ? err_neg(e, r, "write the state") : 0;
}

int chain_merge(const struct chain *c, int fd, int state_fd, struct err *e)
{
	struct memory_map map;

	return merge_memory(c, fd, &map, e) < 0 || merge_state(c, &map, state_fd, e) < 0 ? e->code : 0;
}
