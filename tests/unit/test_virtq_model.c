/* All small descriptor graphs, legal or not, against a model of the rules. */
#include "tests/unit/virtq_fixture.h"

/*
 * All descriptor graphs. Each descriptor of a queue takes one of these forms with every next, and the head every value.
 * The model below is the definition: follow, at most size steps; it shares nothing with virtq.c but the rules.
 */
enum form { OUT, IN, OUT_EMPTY, BAD, TABLE, FORMS };

struct model_desc {
	enum form form;
	bool next;
	unsigned to;
};

static int model(const struct model_desc *desc, unsigned size, unsigned head, unsigned *outs, unsigned *ins)
{
	bool seen[8] = { false };
	bool write_seen = false;
	unsigned at = head;

	*outs = *ins = 0;
	for (;;) {
		if (at >= size || seen[at])
			return -EPROTO;
		seen[at] = true;
		switch (desc[at].form) {
		case OUT:
			(*outs)++;
			break;
		case IN:
			(*ins)++;
			write_seen = true;
			break;
		case OUT_EMPTY:
			break;
		case TABLE: /* one readable and one writable buffer, and the end */
			if (desc[at].next || write_seen)
				return -EPROTO;
			(*outs)++;
			(*ins)++;
			return 1;
		case BAD:
		case FORMS:
			return -EPROTO;
		}
		if (write_seen && desc[at].form != IN)
			return -EPROTO;
		if (!desc[at].next)
			return 1;
		at = desc[at].to;
	}
}

static void write_model_desc(struct drv *d, unsigned i, const struct model_desc *m)
{
	unsigned flags = m->next ? NEXT : 0;

	switch (m->form) {
	case OUT:
		drv_desc(d, i, DRV_DATA, 1, flags, m->to);
		break;
	case IN:
		drv_desc(d, i, DRV_DATA, 1, flags | WRITE, m->to);
		break;
	case OUT_EMPTY:
		drv_desc(d, i, 0, 0, flags, m->to);
		break;
	case TABLE:
		drv_desc(d, i, DRV_TABLE, 32, flags | INDIRECT, m->to);
		break;
	case BAD:
	case FORMS:
		drv_desc(d, i, DRV_MEM - 1, 2, flags, m->to);
		break;
	}
}

/* The n-th way to fill one descriptor: FORMS forms, without next or with next 0 to size (one too many). */
static struct model_desc nth_desc(unsigned n)
{
	unsigned to = n / FORMS;

	return (struct model_desc){ .form = n % FORMS, .next = to > 0, .to = to > 0 ? to - 1 : 0 };
}

static void compare_with_model(struct fix *f, const struct model_desc *desc, unsigned size, unsigned head)
{
	unsigned outs, ins;
	int expect = model(desc, size, head, &outs, &ins);

	drv_publish_idx(&f->d, 0);
	start(f, false, true);
	drv_publish(&f->d, (uint16_t)head);
	assert_int_equal(pop(f), expect);
	if (expect == 1) {
		assert_int_equal(f->c.num_out, outs);
		assert_int_equal(f->c.num_in, ins);
		assert_int_equal(f->c.out_len, outs);
		assert_int_equal(f->c.in_len, ins);
	}
}

static struct fix *graph_setup(uint16_t size)
{
	struct fix *f = calloc(1, sizeof(*f));

	drv_init(&f->d, size, DRV_MEM);
	drv_desc_at(&f->d, DRV_TABLE, 0, DRV_DATA, 1, NEXT, 1);
	drv_desc_at(&f->d, DRV_TABLE, 1, DRV_DATA, 1, WRITE, 0);
	return f;
}

static void test_all_graphs_of_2(void **state)
{
	const unsigned ways = FORMS * 4; /* no next, 0, 1, 2 */
	struct fix *f = graph_setup(2);
	struct model_desc desc[2];

	(void)state;
	for (unsigned n = 0; n < ways * ways; n++) {
		for (unsigned i = 0; i < 2; i++) {
			desc[i] = nth_desc(i ? n / ways : n % ways);
			write_model_desc(&f->d, i, &desc[i]);
		}
		for (unsigned head = 0; head < 3; head++)
			compare_with_model(f, desc, 2, head);
	}
	drv_done(&f->d);
	free(f);
}

/* Of size 4 there are 810,000; of size 8, as many random ones, that chain on more often than not. */
static void test_all_graphs_of_4(void **state)
{
	const unsigned ways = FORMS * 6;
	struct fix *f = graph_setup(4);
	struct model_desc desc[4];

	(void)state;
	for (unsigned n = 0; n < ways * ways * ways * ways; n++) {
		unsigned rest = n;

		for (unsigned i = 0; i < 4; i++, rest /= ways) {
			desc[i] = nth_desc(rest % ways);
			write_model_desc(&f->d, i, &desc[i]);
		}
		compare_with_model(f, desc, 4, 0);
	}
	drv_done(&f->d);
	free(f);
}

static void test_random_graphs_of_8(void **state)
{
	struct fix *f = graph_setup(8);
	struct model_desc desc[8];

	(void)state;
	srandom(3);
	for (unsigned n = 0; n < 300000; n++) {
		for (unsigned i = 0; i < 8; i++) {
			desc[i] = nth_desc((unsigned)random() % (FORMS * 10));
			if (desc[i].form == BAD && random() % 4)
				desc[i].form = OUT;
			write_model_desc(&f->d, i, &desc[i]);
		}
		compare_with_model(f, desc, 8, (unsigned)random() % 8);
	}
	drv_done(&f->d);
	free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_graphs_of_2),
		cmocka_unit_test(test_all_graphs_of_4),
		cmocka_unit_test(test_random_graphs_of_8),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
