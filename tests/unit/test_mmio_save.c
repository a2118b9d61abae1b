/* The transport in a snapshot: quiet, save into one, restore of a fresh one, and what a hostile state may not have. */
#include "tests/unit/mmio_fixture.h"
#include "tests/unit/state_fixture.h"

/* The fields of the transport, with two queues. */
enum {
	AT_KIND = 0,
	AT_QUEUES = 4,
	AT_STATUS = 5,
	AT_FEATURES = 9,
	AT_BEYOND = 17,
	AT_GENERATION = 30,
	AT_IRQ = 34,
	AT_USED = 38,
	AT_CONFIG = 39,
	AT_QUEUE0 = 40,
	QUEUE_LEN = 31,
	Q_SIZE = 0,
	Q_READY = 2,
	Q_DESC = 3,
	Q_AVAIL = 11,
	Q_USED = 19,
	Q_INDEX = 27,
	Q_SIGNALLED = 29,
	AT_KEPT = AT_QUEUE0 + 2 * QUEUE_LEN,
};

static void saved(struct fix *f)
{
	mmio_save(f->m, state_begin_save());
	state_end_save();
	assert_int_equal(payload_len, AT_KEPT + 4);
}

/* Another transport of the same loop and memory, as a new process has it. */
static struct fix *fresh(struct fix *f)
{
	struct fix *g = calloc(1, sizeof(*g));
	struct mmio_irq irq = { .raise = raise_irq, .ctx = g, .line = 5 };
	struct err e;

	g->d = f->d;
	g->loop = f->loop;
	g->note.dev =
		(struct virtio_dev){ .ops = &note_ops, .mem = &g->d.mem, .offered = OWN, .id = "n", .loop = f->loop };
	assert_int_equal(mmio_new(&g->m, &g->note.dev, &kvm, GPA, irq, &e), 0);
	return g;
}

static void drop(struct fix *g)
{
	struct watch *others = mock.loop->watches->next; /* the first is in g */

	g->note.active = true; /* whether it is: the reset of one that was not activated does not come */
	mmio_reset(g->m);
	mock_run_tasks();
	mmio_free(g->m);
	mock.loop->watches = others;
	free(g);
}

static struct fix *restored(struct fix *f)
{
	struct fix *g = fresh(f);
	struct err e;

	if (mmio_restore(g->m, state_of_payload(), &e) < 0)
		fail_msg("%s", e.text);
	return g;
}

static void push_some(struct fix *f, struct virtio_dev *dev, unsigned num)
{
	struct virtq_chain chain;
	const char *why;

	for (unsigned i = 0; i < num; i++) {
		drv_desc(&f->d, i % 8, DRV_DATA, 16, WRITE, 0);
		drv_publish(&f->d, (uint16_t)(i % 8));
		assert_int_equal(virtq_pop(&dev->vq[0], &chain, &why), 1);
		virtq_push(&dev->vq[0], chain.head, 16);
		mmio_used(dev, 0);
	}
}

static void test_goes_on_where_it_was(void **state)
{
	struct fix *f = *state, *g;
	struct virtq *q;

	to_driver_ok(f, V1 | RING | 5);
	f->note.kept = 0x12345678;
	push_some(f, &f->note.dev, 3);
	mock_run_tasks();
	put(f, VIRTIO_MMIO_INTERRUPT_ACK, 3);
	put(f, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	put(f, VIRTIO_MMIO_QUEUE_SEL, 0);
	mmio_config_changed(&f->note.dev);
	mock_run_tasks();
	assert_int_equal(mmio_quiet(f->m, 10, &(struct err){ 0 }), 0);
	saved(f);
	g = restored(f);
	assert_int_equal(status(g), ADFO);
	assert_int_equal(g->note.dev.features, V1 | RING | 5);
	assert_int_equal(g->note.activated, 1);
	assert_int_equal(g->note.kept, 0x12345678);
	assert_int_equal(get(g, VIRTIO_MMIO_CONFIG_GENERATION), 1);
	assert_int_equal(get(g, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
	assert_int_equal(get(g, VIRTIO_MMIO_DEVICE_FEATURES), (V1 | RING) >> 32);
	assert_int_equal(get(g, VIRTIO_MMIO_QUEUE_READY), 1);
	q = &g->note.dev.vq[0];
	assert_int_equal(q->size, 8);
	assert_int_equal(q->next_avail, 3);
	assert_int_equal(q->next_used, 3);
	assert_true(q->event_idx);
	assert_true(q->indirect);
	assert_null(g->note.dev.vq[1].desc);
	assert_true(mmio_state_name(g->m)[0] == 'a');
	assert_int_equal(g->irqs, 0);
	assert_int_equal(g->note.kicks, 0); /* not before mmio_resume */
	mmio_resume(g->m);
	assert_int_equal(g->note.kicks, 1);
	assert_int_equal(g->note.resumes, 1);
	assert_int_equal(g->irqs, 1); /* the driver has not acknowledged it */
	push_some(f, &g->note.dev, 1);
	assert_int_equal(drv_used_idx(&f->d), 4);
	drop(g);
}

/* What was saved in a state on the way to DRIVER_OK goes on from there. */
static void test_each_status(void **state)
{
	static const uint32_t on_the_way[] = { 0, A, AD, ADF, AD | FAILED };

	for (unsigned i = 0; i < MF_ARRAY_SIZE(on_the_way); i++) {
		struct fix *f = *state, *g;

		put_status(f, 0);
		for (unsigned k = 0; k < i && k < 3; k++) {
			put_status(f, on_the_way[k]);
			if (on_the_way[k] == AD)
				put_features(f, V1);
		}
		put_status(f, on_the_way[i]);
		assert_int_equal(status(f), on_the_way[i]);
		saved(f);
		g = restored(f);
		assert_int_equal(status(g), on_the_way[i]);
		assert_int_equal(g->note.activated, 0);
		mmio_resume(g->m);
		assert_int_equal(g->note.kicks, 0);
		put_status(g, 0);
		to_driver_ok(g, V1);
		assert_int_equal(g->note.activated, 1);
		drop(g);
	}
}

/* A device that waits for its reset still does, and works after it. */
static void test_broken(void **state)
{
	struct fix *f = *state, *g;

	to_driver_ok(f, V1);
	mmio_broken(&f->note.dev, "test");
	saved(f); /* its interrupt is due */
	g = restored(f);
	assert_int_equal(status(g), ADFO | NEEDS_RESET);
	assert_int_equal(g->note.activated, 0);
	mmio_resume(g->m);
	mock_run_tasks();
	assert_int_equal(g->irqs, 1);
	assert_int_equal(get(g, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
	assert_int_equal(g->note.kicks, 0);
	put_status(g, 0);
	to_driver_ok(g, V1);
	assert_int_equal(g->note.kicks, 1);
	drop(g);
}

/* An interrupt that was due when the state was saved is raised by the restored transport, and only if the driver wants it. */
static void test_due_interrupt(void **state)
{
	struct fix *f = *state, *g;

	for (unsigned wanted = 0; wanted < 2; wanted++) {
		put_status(f, 0);
		to_driver_ok(f, V1);
		drv_set_no_interrupt(&f->d, !wanted);
		push_some(f, &f->note.dev, 1);
		assert_int_equal(mmio_quiet(f->m, 10, &(struct err){ 0 }), 0);
		saved(f);
		g = restored(f);
		mmio_resume(g->m);
		mock_run_tasks();
		assert_int_equal(g->irqs, wanted);
		assert_int_equal(get(g, VIRTIO_MMIO_INTERRUPT_STATUS), wanted ? VIRTIO_MMIO_INT_VRING : 0);
		mock_run_tasks();
		drop(g);
		mmio_resume(f->m);
		mock_run_tasks();
	}
	drv_set_no_interrupt(&f->d, false);
}

/*
 * A full ring at the time of the snapshot, with no notification to come: each side has suppressed the other's, by flag or by
 * index, or the eventfd was read already. The restored device looks at its queue, and the driver learns of it.
 */
static void test_full_ring(void **state)
{
	for (unsigned event_idx = 0; event_idx < 2; event_idx++) {
		struct fix *f = *state, *g;

		put_status(f, 0);
		to_driver_ok(f, V1 | (event_idx ? RING : 0));
		virtq_disable_notify(&f->note.dev.vq[0]);
		drv_set_used_event(&f->d, 7);
		assert_int_equal(mmio_quiet(f->m, 10, &(struct err){ 0 }), 0);
		for (unsigned i = 0; i < 8; i++) {
			drv_desc(&f->d, i, DRV_DATA, 16, WRITE, 0);
			drv_publish(&f->d, (uint16_t)i);
		}
		f->note.kick_pops = true;
		put(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0); /* comes in vain */
		assert_int_equal(drv_used_idx(&f->d), 0);
		saved(f);
		g = restored(f);
		g->note.kick_pops = true;
		mmio_resume(g->m);
		mock_run_tasks();
		assert_int_equal(drv_used_idx(&f->d), 8);
		assert_int_equal(g->irqs, 1);
		drop(g);
		f->note.kick_pops = false;
	}
}

/* The source of a snapshot goes on, too. */
static void test_resume(void **state)
{
	struct fix *f = *state;
	struct err e;

	to_driver_ok(f, V1);
	f->note.kick_pops = true;
	assert_int_equal(mmio_quiet(f->m, 10, &e), 0);
	assert_int_equal(f->note.quiets, 1);
	drv_desc(&f->d, 0, DRV_DATA, 16, WRITE, 0);
	drv_publish(&f->d, 0);
	put(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	assert_int_equal(drv_used_idx(&f->d), 0);
	mmio_resume(f->m);
	assert_int_equal(f->note.resumes, 1);
	assert_int_equal(drv_used_idx(&f->d), 1);
	mock_run_tasks();
	assert_int_equal(f->irqs, 1);
}

/* A device that does not come to rest: the caller learns its name, and can go on. */
static void test_not_quiet(void **state)
{
	struct fix *f = *state;
	struct err e;

	to_driver_ok(f, V1);
	f->note.quiet_result = 1;
	assert_int_equal(mmio_quiet(f->m, 10, &e), -ETIMEDOUT);
	assert_non_null(strstr(e.text, "'n'"));
	mmio_resume(f->m);
	assert_int_equal(f->note.resumes, 1);
	push_some(f, &f->note.dev, 1);
}

/* Inactive devices are quiet. */
static void test_quiet_before_driver_ok(void **state)
{
	struct fix *f = *state;

	to_features_ok(f, V1);
	assert_int_equal(mmio_quiet(f->m, 10, &(struct err){ 0 }), 0);
	assert_int_equal(f->note.quiets, 0);
	mmio_resume(f->m);
	put_status(f, 0);
	to_driver_ok(f, V1);
	push_some(f, &f->note.dev, 1);
}

struct change {
	size_t at;
	uint64_t value;
	unsigned bytes;
	const char *names; /* a word of the refusal */
};

static void refuses(struct fix *f, const struct change *c)
{
	uint8_t good[sizeof(payload)];
	struct fix *g = fresh(f);
	struct err e = { 0 };

	memcpy(good, payload, sizeof(good));
	payload_put(c->at, c->value, c->bytes);
	assert_int_equal(mmio_restore(g->m, state_of_payload(), &e), -EINVAL);
	if (!strstr(e.text, c->names) || !strstr(e.text, "note 'n'"))
		fail_msg("'%s' does not name '%s'", e.text, c->names);
	assert_int_equal(g->note.activated, 0);
	assert_int_equal(g->irqs, 0);
	drop(g);
	memcpy(payload, good, sizeof(good));
}

static void test_hostile(void **state)
{
	static const struct change changes[] = {
		{ AT_KIND, 43, 4, "kind" },
		{ AT_QUEUES, 3, 1, "queues" },
		{ AT_STATUS, 4, 4, "status" },
		{ AT_STATUS, 0x1f, 4, "status" },
		{ AT_STATUS, 0x8000000f, 4, "status" },
		{ AT_FEATURES, V1 | 2, 8, "features" },
		{ AT_FEATURES, 0, 8, "features" },
		{ AT_FEATURES, V1 | 1ULL << 33, 8, "features" },
		{ AT_BEYOND, 2, 1, "features" },
		{ AT_BEYOND, 1, 1, "features" },
		{ AT_IRQ, 4, 4, "interrupt" },
		{ AT_USED, 4, 1, "interrupt" },
		{ AT_CONFIG, 2, 1, "interrupt" },
		{ AT_QUEUE0 + Q_SIZE, 3, 2, "size" },
		{ AT_QUEUE0 + Q_SIZE, 0, 2, "size" },
		{ AT_QUEUE0 + Q_SIZE, 512, 2, "size" },
		{ AT_QUEUE0 + Q_READY, 2, 1, "ready" },
		{ AT_QUEUE0 + Q_DESC, DRV_MEM, 8, "RAM" },
		{ AT_QUEUE0 + Q_DESC, DRV_DESC + 8, 8, "aligned" },
		{ AT_QUEUE0 + Q_DESC, UINT64_MAX - 15, 8, "RAM" },
		{ AT_QUEUE0 + Q_AVAIL, DRV_MEM - 2, 8, "RAM" },
		{ AT_QUEUE0 + Q_AVAIL, 1, 8, "aligned" },
		{ AT_QUEUE0 + Q_USED, DRV_MEM - 4, 8, "RAM" },
		{ AT_QUEUE0 + Q_USED, 2, 8, "aligned" },
		{ AT_QUEUE0 + QUEUE_LEN + Q_SIZE, 257, 2, "size" },
		{ AT_QUEUE0 + QUEUE_LEN + Q_READY, 1, 1, "size" },
	};
	struct fix *f = *state;

	to_driver_ok(f, V1 | 5);
	saved(f);
	for (unsigned i = 0; i < MF_ARRAY_SIZE(changes); i++)
		refuses(f, &changes[i]);
	payload_put(AT_STATUS, AD, 4);
	refuses(f, &(struct change){ AT_BEYOND, 0, 1, "ready before" });
}

/* Every length that is too short, and one that is too long. */
static void test_length(void **state)
{
	struct fix *f = *state;
	struct err e;

	to_driver_ok(f, V1);
	saved(f);
	for (size_t len = payload_len + 1, good = payload_len; len-- > 0;) {
		struct fix *g = fresh(f);

		payload_len = len + (len == good);
		assert_int_equal(mmio_restore(g->m, state_of_payload(), &e), -EINVAL);
		drop(g);
	}
}

/* Indices that a driver did not have are the guest's own affair: they break the device, at most. */
static void test_wild_indices(void **state)
{
	struct fix *f = *state, *g;

	to_driver_ok(f, V1);
	saved(f);
	payload_put(AT_QUEUE0 + Q_INDEX, 0x8000, 2);
	payload_put(AT_QUEUE0 + Q_SIGNALLED, 0x1234, 2);
	g = restored(f);
	g->note.kick_pops = true;
	mmio_resume(g->m);
	mock_run_tasks();
	assert_int_equal(status(g), ADFO | NEEDS_RESET);
	drop(g);
}

static void test_activation_fails(void **state)
{
	struct fix *f = *state, *g;
	struct err e;

	to_driver_ok(f, V1);
	saved(f);
	g = fresh(f);
	g->note.activate_result = -EIO;
	assert_int_equal(mmio_restore(g->m, state_of_payload(), &e), -EINVAL);
	assert_non_null(strstr(e.text, "activated"));
	drop(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		/* clang-format off */
		T(test_goes_on_where_it_was),
		T(test_each_status),
		T(test_broken),
		T(test_due_interrupt),
		T(test_full_ring),
		T(test_resume),
		T(test_not_quiet),
		T(test_quiet_before_driver_ok),
		T(test_hostile),
		T(test_length),
		T(test_wild_indices),
		T(test_activation_fails),
		/* clang-format on */
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
