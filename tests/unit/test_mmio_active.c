/* The transport in use: activation, notifications, interrupts, broken drivers, reset. */
#include "tests/unit/mmio_fixture.h"
#include "virtio/mmio_state.h"
#include "vmm/base/fdio.h"

static void test_activation(void **state)
{
	struct fix *f = *state;

	to_driver_ok(f, V1 | OWN);
	assert_int_equal(f->note.activated, 1);
	assert_int_equal(f->note.dev.features, V1 | OWN);
	assert_non_null(f->note.dev.vq[0].desc);
	assert_null(f->note.dev.vq[1].desc); /* was not ready */
	assert_int_equal(f->note.kicks, 1);  /* what was published before is not lost */
	put_status(f, ADFO);
	assert_int_equal(f->note.activated, 1);
}

static void test_activation_fails(void **state)
{
	struct fix *f = *state;

	f->note.activate_result = -EIO;
	to_features_ok(f, V1);
	put_queue(f, 0, 8, DRV_DESC, DRV_AVAIL, DRV_USED);
	put_status(f, ADFO);
	assert_int_equal(status(f), ADFO | NEEDS_RESET);
	mock_run_tasks();
	assert_int_equal(f->irqs, 1);
	assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
	put(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	(void)mock_poll_watches();
	assert_int_equal(f->note.kicks, 0);
	put_status(f, 0);
	assert_int_equal(f->note.resets, 0); /* there was nothing to reset */
	assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	f->note.activate_result = 0;
	to_driver_ok(f, V1);
	assert_int_equal(f->note.activated, 2);
	assert_int_equal(f->note.kicks, 1);
}

static void test_ioeventfd_late_and_once(void **state)
{
	struct fix *f = *state;

	put_status(f, 0);
	to_features_ok(f, V1);
	put_status(f, 0);
	assert_int_equal(ioeventfds, 0);
	for (unsigned i = 0; i < 3; i++) {
		to_driver_ok(f, V1);
		put_status(f, 0);
	}
	assert_int_equal(ioeventfds, 1);
}

static void test_ioeventfd_fails(void **state)
{
	struct fix *f = *state;

	ioeventfd_result = -ENOSPC;
	to_driver_ok(f, V1);
	put(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	assert_int_equal(f->note.kicks, 2);
}

/* The device looks at all of its queues, whichever the driver names. */
static void test_notify(void **state)
{
	static const uint32_t values[] = { 1, 2, 3, 0x10000, 0x80000000, 0xffffffff };
	struct fix *f = *state;

	put(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	to_features_ok(f, V1);
	put(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	assert_int_equal(mock_poll_watches(), 0);
	put_status(f, 0);
	to_driver_ok(f, V1);
	assert_int_equal(f->note.kicks, 1);
	put(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	assert_int_equal(f->note.kicks, 2);
	for (size_t i = 0; i < MF_ARRAY_SIZE(values); i++)
		put(f, VIRTIO_MMIO_QUEUE_NOTIFY, values[i]);
	assert_int_equal(f->note.kicks, 2 + MF_ARRAY_SIZE(values));
	put_status(f, 0);
	put(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	assert_int_equal(f->note.kicks, 2 + MF_ARRAY_SIZE(values));
}

/* KVM signals the eventfd. A signal that a reset overtakes does not reach the device. */
static void test_ioeventfd_fires(void **state)
{
	struct fix *f = *state;

	to_driver_ok(f, V1);
	fdio_event_signal(f->m->notify_fd);
	assert_int_equal(mock_poll_watches(), 1);
	assert_int_equal(f->note.kicks, 2);
	fdio_event_signal(f->m->notify_fd);
	put_status(f, 0); /* note_reset sees the signal, and note_kick fails if it gets there */
	assert_int_equal(f->note.resets, 1);
	assert_int_equal(f->note.kicks, 2);
}

static void test_interrupt(void **state)
{
	struct fix *f = *state;

	f->note.kick_pops = true;
	to_driver_ok(f, V1);
	drv_desc(&f->d, 0, DRV_DATA, 1, 0, 0);
	drv_desc(&f->d, 1, DRV_DATA, 1, 0, 0);
	drv_add(&f->d, 0);
	drv_publish(&f->d, 1);
	put(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	(void)mock_poll_watches();
	assert_int_equal(drv_used_idx(&f->d), 2);
	assert_int_equal(f->irqs, 0);
	assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	mmio_config_changed(&f->note.dev);
	mock_run_tasks();
	assert_int_equal(f->irqs, 1); /* one per turn, for all */
	assert_int_equal(f->irq_line, 5);
	assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG);

	put(f, VIRTIO_MMIO_INTERRUPT_ACK, 0xfffffffc);
	assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), 3);
	put(f, VIRTIO_MMIO_INTERRUPT_ACK, 1);
	assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
	put(f, VIRTIO_MMIO_INTERRUPT_ACK, 0xffffffff);
	assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), 0);

	drv_set_no_interrupt(&f->d, true);
	drv_publish(&f->d, 0);
	put(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	(void)mock_poll_watches();
	mock_run_tasks();
	assert_int_equal(drv_used_idx(&f->d), 3);
	assert_int_equal(f->irqs, 1); /* not wanted */
	drv_set_no_interrupt(&f->d, false);
	mock_run_tasks();
	assert_int_equal(f->irqs, 1);
}

/* The attention word says whether InterruptStatus has more than used buffers. The device sets it, and no more. */
static void test_attention(void **state)
{
	struct fix *f = *state;

	f->note.kick_pops = true;
	to_driver_ok(f, V1);
	drv_desc(&f->d, 0, DRV_DATA, 1, 0, 0);
	drv_publish(&f->d, 0);
	put(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	(void)mock_poll_watches();
	mock_run_tasks();
	assert_int_equal(f->irqs, 1);
	assert_int_equal(f->attention, 0);

	/* Never acknowledged: the next used buffer interrupts all the same. */
	drv_publish(&f->d, 0);
	put(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	(void)mock_poll_watches();
	mock_run_tasks();
	assert_int_equal(f->irqs, 2);
	assert_int_equal(f->attention, 0);

	mmio_config_changed(&f->note.dev);
	mock_run_tasks();
	assert_int_equal(f->irqs, 3);
	assert_int_equal(f->attention, 1);
	assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG);
	put(f, VIRTIO_MMIO_INTERRUPT_ACK, 3);
	assert_int_equal(f->attention, 1); /* it is the driver's to clear */

	f->attention = 0;
	mmio_broken(&f->note.dev, "a test");
	mock_run_tasks();
	assert_int_equal(f->attention, 1);
	assert_int_equal(status(f), ADFO | NEEDS_RESET);

	/* The device does not read what the guest writes there. */
	f->attention = 0xffffffff;
	put_status(f, 0);
	to_driver_ok(f, V1);
	mmio_config_changed(&f->note.dev);
	mock_run_tasks();
	assert_int_equal(f->irqs, 5);
	assert_int_equal(f->attention, 1);
}

static void break_ring(struct fix *f)
{
	drv_publish_idx(&f->d, 1000);
	put(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	(void)mock_poll_watches();
	mock_run_tasks();
}

static void test_broken(void **state)
{
	struct fix *f = *state;

	f->note.kick_pops = true;
	for (unsigned i = 0; i < 20; i++) {
		f->irqs = 0;
		to_driver_ok(f, V1);
		break_ring(f);
		assert_int_equal(status(f), ADFO | NEEDS_RESET);
		assert_int_equal(f->irqs, 1);
		assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
		f->note.kicks = 0;
		break_ring(f);
		assert_int_equal(f->note.kicks, 0);
		assert_int_equal(f->irqs, 1);
		put_status(f, ADFO | NEEDS_RESET | FAILED);
		assert_int_equal(status(f), ADFO | NEEDS_RESET | FAILED);
		put_status(f, 0);
		assert_int_equal(status(f), 0);
	}
	/* And now it works. */
	to_driver_ok(f, V1);
	drv_desc(&f->d, 0, DRV_DATA, 1, 0, 0);
	drv_publish(&f->d, 0);
	put(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	(void)mock_poll_watches();
	assert_int_equal(drv_used_idx(&f->d), 1);
}

/* A device may find fault with a request by itself; its queues then give nothing more, whoever asks. */
static void test_broken_by_device(void **state)
{
	struct fix *f = *state;
	struct virtq_chain chain;
	const char *why;

	to_driver_ok(f, V1);
	drv_desc(&f->d, 0, DRV_DATA, 1, 0, 0);
	drv_publish(&f->d, 0);
	mmio_broken(&f->note.dev, "a test");
	mmio_broken(&f->note.dev, "a test");
	mock_run_tasks();
	assert_int_equal(f->irqs, 1);
	assert_int_equal(virtq_pop(&f->note.dev.vq[0], &chain, &why), -EPROTO);
}

static void test_reset(void **state)
{
	struct fix *f = *state;

	f->note.kick_pops = true;
	to_driver_ok(f, V1 | OWN | RING);
	drv_desc(&f->d, 0, DRV_DATA, 1, 0, 0);
	drv_publish(&f->d, 0);
	mmio_config_changed(&f->note.dev);
	mock_run_tasks();
	put(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	(void)mock_poll_watches(); /* and its interrupt is due at the end of the turn */
	f->irqs = 0;
	mmio_config_changed(&f->note.dev);
	put(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0); /* note_reset looks at it as a drain does */
	put_status(f, 0);
	assert_int_equal(status(f), 0);
	assert_int_equal(f->note.resets, 1);
	assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_READY), 0);
	assert_int_equal(f->note.dev.features, 0);
	mock_run_tasks();
	assert_int_equal(f->irqs, 0);
	assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	put_status(f, 0);
	assert_int_equal(f->note.resets, 1);
	to_driver_ok(f, V1 | OWN | RING);
	assert_int_equal(f->note.activated, 2);
	mmio_reset(f->m);
	assert_int_equal(status(f), 0);
	assert_int_equal(f->note.resets, 2);
}

static void test_reset_forgets_selectors(void **state)
{
	struct fix *f = *state;

	to_driver(f);
	put(f, VIRTIO_MMIO_QUEUE_SEL, 2); /* there is no such queue */
	put(f, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
	assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
	assert_int_equal(get(f, VIRTIO_MMIO_DEVICE_FEATURES), 0);
	put_status(f, 0);
	assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_NUM_MAX), VIRTQ_SIZE_MAX);
	assert_int_equal(get(f, VIRTIO_MMIO_DEVICE_FEATURES), (uint32_t)(OWN | RING));
}

/* Features do not survive a reset: the next driver begins with none. */
static void test_reset_forgets_features(void **state)
{
	struct fix *f = *state;

	to_driver(f);
	put_features(f, V1);
	put(f, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 7);
	put(f, VIRTIO_MMIO_DRIVER_FEATURES, 1);
	put_status(f, 0);
	to_driver(f);
	put_status(f, ADF);
	assert_int_equal(status(f), AD);
	put_features(f, V1);
	put_status(f, ADF);
	assert_int_equal(status(f), ADF);
}

/* Random accesses of all kinds: nothing ends, and afterwards the device works. */
static void test_random_accesses(void **state)
{
	static const uint32_t regs[] = { 0x14, 0x20, 0x24, 0x30, 0x38, 0x44, 0x50, 0x64,
					 0x70, 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4, 0x100 };
	static const uint32_t values[] = { 0, 1, 2, 3, 7, 8, 11, 15, DRV_DESC, DRV_AVAIL, DRV_USED, 0xffffffff };
	struct fix *f = *state;

	f->note.kick_pops = true;
	srandom(6);
	for (unsigned i = 0; i < 300000; i++) {
		uint64_t offset = (unsigned)random() % 0xff8;
		uint8_t buf[8];

		if (random() % 4) {
			put(f, regs[(unsigned)random() % MF_ARRAY_SIZE(regs)],
			    values[(unsigned)random() % MF_ARRAY_SIZE(values)]);
		} else {
			for (unsigned k = 0; k < 8; k++)
				buf[k] = (uint8_t)random();
			mmio_access(f->m, offset, random() % 2, buf, 1U << random() % 4);
		}
		if (i % 16 == 0) {
			(void)mock_poll_watches();
			mock_run_tasks();
		}
		if (i % 1000 == 0) {
			put_status(f, 0);
			to_driver_ok(f, V1);
		}
	}
	put_status(f, 0);
	to_driver_ok(f, V1);
}

static void test_new_fails(void **state)
{
	struct fix *f = *state;
	struct note other = { .dev = { .ops = &note_ops, .mem = &f->d.mem, .id = "other", .loop = mock.loop } };
	struct mmio *m = NULL;
	struct err e;

	mock_leave_files(0);
	assert_int_equal(mmio_new(&m, &other.dev, NULL, GPA, (struct mmio_irq){ 0 }, &e), -EMFILE);
	assert_string_equal(e.text, "note 'other': its loop has too many files");
	assert_null(m);
	mmio_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_activation),
		T(test_activation_fails),
		T(test_ioeventfd_late_and_once),
		T(test_ioeventfd_fails),
		T(test_notify),
		T(test_ioeventfd_fires),
		T(test_interrupt),
		T(test_attention),
		T(test_broken),
		T(test_broken_by_device),
		T(test_reset),
		T(test_reset_forgets_selectors),
		T(test_reset_forgets_features),
		T(test_random_accesses),
		T(test_new_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
