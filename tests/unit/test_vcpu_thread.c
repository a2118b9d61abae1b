/* The thread of a vCPU: its start, its pauses, and what KVM_RUN may return. */
#include <errno.h>
#include <linux/kvm.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/vcpu_fixture.h"

/* KVM_RUN that a signal ends; the flag alone ends the next. */
static int turn_wait(struct world *mine)
{
	atomic_store(&mine->waits, true);
	while (poll(NULL, 0, TIMEOUT_MS) == 0)
		;
	atomic_store(&mine->waits, false);
	return EINTR;
}

static void pause_vcpu(void)
{
	gate_close(&w->gate);
	vcpu_kick(&w->vcpu);
	while (!gate_await_parked(&w->gate, 10))
		vcpu_kick(&w->vcpu); /* our KVM_RUN, unlike the real one, misses a signal that comes just before it */
	assert_false(atomic_load(&w->waits));
}

static void await_waits(void)
{
	while (!atomic_load(&w->waits))
		usleep(100);
}

static void test_pause(void **state)
{
	(void)state;
	w->turn[0] = turn_wait;
	start();
	for (unsigned i = 0; i < 20; i++) {
		await_waits();
		pause_vcpu();
		assert_int_equal(w->run->immediate_exit, 0); /* it is not ended again for nothing */
		gate_open(&w->gate);
	}
	await_waits();
	finish();
}

/* A kick while it is parked is for the next KVM_RUN. */
static void test_kick_while_parked(void **state)
{
	unsigned before;

	(void)state;
	w->turn[0] = turn_wait;
	start();
	await_waits();
	pause_vcpu();
	before = atomic_load(&w->turns);
	vcpu_kick(&w->vcpu);
	assert_int_equal(w->run->immediate_exit, 1);
	gate_open(&w->gate);
	await_waits();
	assert_int_equal(atomic_load(&w->turns), before + 2);
	finish();
}

static int turn_shutdown(struct world *mine)
{
	mine->run->exit_reason = KVM_EXIT_SHUTDOWN;
	return 0;
}

/* No guest runs before the gate opens, nor at all if the thread could not be confined. */
static void test_start(void **state)
{
	(void)state;
	gate_close(&w->gate);
	w->turn[0] = turn_shutdown;
	start();
	assert_true(gate_await_parked(&w->gate, TIMEOUT_MS));
	assert_true(atomic_load(&w->confined));
	assert_int_equal(atomic_load(&w->turns), 0);
	assert_int_equal(atomic_load(&w->vcpu.tid) > 0, 1);
	gate_open(&w->gate);
	gate_await_left(&w->gate);
	assert_int_equal(vm_end_reason(&w->end), VM_END_TRIPLE_FAULT);
	assert_false(atomic_load(&w->timeline.mark[TIMELINE_RUN].set)); /* that is the first vCPU's */
	make(0);
	run(turn_shutdown, NULL);
	assert_true(atomic_load(&w->timeline.mark[TIMELINE_RUN].set));
	setup(state);
	w->confine_result = -EPERM;
	run(turn_shutdown, NULL);
	assert_int_equal(vm_end_reason(&w->end), VM_END_KVM);
	assert_string_equal(w->end.text, "no filter");
	assert_int_equal(atomic_load(&w->turns), 0);
}

static int turn_again(struct world *mine)
{
	(void)mine;
	return EAGAIN;
}

static unsigned agains;

/* As often as it may be in a row, twice. */
static int turn_often(struct world *mine)
{
	if (atomic_load(&mine->turns) % (agains + 1)) {
		return EAGAIN;
	} else if (atomic_load(&mine->turns) > 2 * agains) {
		return turn_end(mine);
	}
	mine->run->exit_reason = KVM_EXIT_INTR;
	return 0;
}

static int turn_fails(struct world *mine)
{
	(void)mine;
	return EFAULT;
}

/* An AP's first KVM_RUN is EAGAIN. A KVM that says nothing else ends the VM, as does any other error. */
static void test_refusals(void **state)
{
	(void)state;
	run(turn_again, turn_end);
	assert_int_equal(vm_end_reason(&w->end), VM_END_QUIT);
	setup(state);
	run(turn_again, turn_again);
	assert_int_equal(vm_end_reason(&w->end), VM_END_KVM);
	agains = atomic_load(&w->turns) - 1;
	assert_in_range(agains, 100, 100000);
	setup(state);
	run(turn_often, turn_often);
	assert_int_equal(vm_end_reason(&w->end), VM_END_QUIT);
	setup(state);
	run(turn_fails, turn_end);
	assert_int_equal(vm_end_reason(&w->end), VM_END_KVM);
	assert_int_equal(atomic_load(&w->turns), 1);
}

static bool main_is_woken(void)
{
	uint64_t count;

	return read(w->end.wake_fd, &count, sizeof(count)) == sizeof(count);
}

static int turn_exit(struct world *mine)
{
	mine->run->exit_reason = KVM_EXIT_INTR;
	return 0;
}

/* A main thread that sleeps until the guest does something hears of its first exit. */
static void test_guest_is_active(void **state)
{
	(void)state;
	atomic_store(&w->halt.state, HALT_ASLEEP);
	w->turn[0] = turn_exit;
	w->turn[1] = turn_wait;
	start();
	await_waits();
	assert_true(main_is_woken());
	assert_int_equal(atomic_load(&w->halt.state), HALT_ACTIVE);
	finish();
	setup(state);
	w->turn[0] = turn_exit;
	w->turn[1] = turn_wait;
	start();
	await_waits();
	assert_false(main_is_woken());
	finish();
}

static void test_dead(void **state)
{
	static const struct {
		int mp_state;
		bool if_flag, dead;
	} cases[] = {
		{ KVM_MP_STATE_HALTED, false, true },
		{ KVM_MP_STATE_HALTED, true, false },
		{ KVM_MP_STATE_UNINITIALIZED, true, true },
		{ KVM_MP_STATE_INIT_RECEIVED, true, true },
		{ KVM_MP_STATE_RUNNABLE, false, false },
		{ KVM_MP_STATE_SIPI_RECEIVED, false, false },
		{ -1, false, false }, /* KVM does not say */
	};

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(cases); i++) {
		w->mp_state = cases[i].mp_state;
		w->run->if_flag = cases[i].if_flag;
		assert_int_equal(vcpu_is_dead(&w->vcpu), cases[i].dead);
	}
}

/* What is half built can be kicked. */
static void test_no_vcpu(void **state)
{
	struct vcpu v;

	(void)state;
	w->kvm.vm_fd = -1;
	assert_int_equal(vcpu_init(&v, &w->env, 0, &err), -ENOMEM);
	vcpu_kick(&v);
	w->kvm = (struct kvm){ .vm_fd = 100, .run_size = 1ULL << 60 };
	assert_true(vcpu_init(&v, &w->env, 0, &err) < 0);
	vcpu_kick(&v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ONE(test_pause),    ONE(test_kick_while_parked), ONE(test_start),
		ONE(test_refusals), ONE(test_guest_is_active),	 ONE(test_dead),
		ONE(test_no_vcpu),
	};

	return cmocka_run_group_tests(tests, group_setup, NULL);
}
