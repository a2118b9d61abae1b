/* Memory that VMs share with one that runs; see fork.h. */
#include "vmm/snapshot/fork.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/snapshot/chain_parts.h"

int fork_add(struct chain **c, int fd, uint64_t size, const struct memory_run *run, unsigned num, struct err *e)
{
	struct chain_layer l = { .fd = fd, .map = { .size = size } };

	if (!*c)
		*c = chain_new();
	if (!*c || !(l.state = strdup("")) || !(l.memory = strdup("")) || !(l.dir = strdup("")))
		err_set(e, -ENOMEM, "out of memory");
	else if ((*c)->num == CHAIN_MAX)
		err_set(e, -E2BIG, "memory of more than %d layers", CHAIN_MAX);
	else if (chain_copy_runs(&l, run, num, e) == 0) {
		memmove(&(*c)->layer[1], &(*c)->layer[0], (*c)->num * sizeof(l));
		(*c)->layer[0] = l;
		(*c)->num++;
		(*c)->live = true;
		return 0;
	}
	l.fd = -1; /* the caller's */
	chain_close_layer(&l);
	return e->code;
}

int fork_replace(struct chain *c, int fd, uint64_t size, const struct memory_run *run, unsigned num, struct err *e)
{
	struct chain *one = NULL;
	int r = fork_add(&one, fd, size, run, num, e);

	if (!r) {
		while (c->num > 0)
			chain_close_layer(&c->layer[--c->num]);
		c->layer[c->num++] = one->layer[0];
		c->live = true;
		one->layer[0] = (struct chain_layer){ .fd = -1 };
	}
	chain_free(one);
	return r;
}

unsigned fork_count_runs(const struct chain *c)
{
	unsigned num = 0;

	for (unsigned i = 0; i < c->num; i++)
		num += c->layer[i].num_runs;
	return num;
}

void fork_put(const struct chain *c, struct state_out *out)
{
	for (unsigned i = 0; i < c->num; i++) {
		const struct chain_layer *l = &c->layer[i];

		state_begin(out, FORK_TAG, i, FORK_VERSION);
		state_put_u64(out, l->map.size);
		state_put_u32(out, l->num_runs);
		for (unsigned j = 0; j < l->num_runs; j++) {
			state_put_u32(out, (uint32_t)(l->run[j].offset / MF_PAGE_SIZE));
			state_put_u32(out, (uint32_t)(l->run[j].len / MF_PAGE_SIZE));
		}
		state_end(out);
	}
}

int fork_get_layer(struct chain_layer *l, struct state_in *in, unsigned number, struct err *e)
{
	MF_FREE struct memory_run *run = NULL;
	uint64_t end = 0;
	uint32_t num;

	if (state_open(in, FORK_TAG, number, FORK_VERSION, e) < 0)
		return e->code;
	l->map.size = state_get_u64(in);
	num = state_get_u32(in);
	if (l->map.size % MF_PAGE_SIZE || num > FORK_RUNS_MAX || state_left(in) != num * 2 * sizeof(uint32_t)) {
		state_refuse(in, "size of memory, or number of runs");
		return state_close(in, e);
	}
	run = malloc((num + 1) * sizeof(*run));
	if (!run)
		return err_set(e, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < num; i++) {
		run[i].offset = (uint64_t)state_get_u32(in) * MF_PAGE_SIZE;
		run[i].len = (uint64_t)state_get_u32(in) * MF_PAGE_SIZE;
		if (run[i].offset < end || !run[i].len || !mf_range_within(run[i].offset, run[i].len, l->map.size))
			state_refuse(in, "a run of memory");
		end = run[i].offset + run[i].len;
	}
	return state_close(in, e) < 0 ? e->code : chain_copy_runs(l, run, num, e);
}

/* What the state says of the memories. */
static int get_layers(struct chain *c, struct err *e)
{
	struct state_in in = c->in;

	if (!chain_seek(&in, FORK_TAG))
		return err_set(e, -EINVAL, "it has no section of shared memory");
	c->in.end = in.at;
	for (unsigned i = 0; i < c->num; i++) {
		if (fork_get_layer(&c->layer[i], &in, i, e) < 0)
			return e->code;
		if (c->layer[i].map.size != c->layer[0].map.size)
			return err_set(e, -EINVAL, "its memories differ in size");
	}
	return in.at == in.end ? 0 : err_set(e, -EINVAL, "it has more memories than the %u that came", c->num);
}

/* The memories become c's, with names for messages. */
static int take_memories(struct chain *c, const char *path, const int *memory, unsigned num, struct err *e)
{
	int r = 0;

	for (; c->num < num; c->num++)
		c->layer[c->num].fd = memory[c->num];
	for (unsigned i = 0; i < num && !r; i++) {
		struct chain_layer *l = &c->layer[i];

		l->state = strdup(path);
		if (!l->state || asprintf(&l->memory, "descriptor %d", l->fd) < 0) {
			l->memory = NULL; /* asprintf leaves it undefined */
			r = err_set(e, -ENOMEM, "out of memory");
		}
	}
	return r;
}

static int check_memories(const struct chain *c, struct err *e)
{
	for (unsigned i = 0; i < c->num; i++)
		if (memory_check_file(&c->layer[i].map, c->layer[i].fd, e) < 0)
			return err_wrap(e, "memory '%s'", c->layer[i].memory);
	return 0;
}

int fork_open(struct chain **ret, const char *path, const int *memory, unsigned num, struct err *e)
{
	struct chain *c = num >= 1 && num <= CHAIN_MAX ? chain_new() : NULL;
	int r;

	if (!c) {
		while (num > 0)
			close(memory[--num]);
		return err_set(e, -EINVAL, "a state of 1 to %d memories, and memory for it, are needed", CHAIN_MAX);
	}
	r = take_memories(c, path, memory, num, e);
	if (!r) {
		r = chain_read_state(&c->layer[0], path, O_RDONLY | O_NOFOLLOW, &c->data, &c->in, e);
		if (!r)
			r = get_layers(c, e);
		if (r < 0)
			err_wrap(e, "state '%s'", path);
	}
	if (!r)
		r = check_memories(c, e);
	if (r < 0) {
		chain_free(c);
		return r;
	}
	c->live = true;
	*ret = c;
	return 0;
}
