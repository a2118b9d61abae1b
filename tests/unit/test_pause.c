/* Pausing vCPUs, with threads that run no guest in their place. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/vm/vm.h"

#define VCPUS 4
#define PAUSE_MS 50
#define TIMEOUT_MS 60000
#define PAUSES 20
#define SWITCHES_MAX (10 * PAUSES) /* of one thread in all of them, if it sees none of their ends */

static struct vm vms[4], *vm; /* one for each test: its threads stay */
static atomic_long most_switches;

static long switches(void)
{
	struct rusage usage;

	assert_int_equal(getrusage(RUSAGE_THREAD, &usage), 0);
	return usage.ru_nvcsw;
}

/* In the place of KVM_RUN, it looks whether a pause is wanted. */
static void *vcpu(void *arg)
{
	struct vcpu *v = arg;

	while (vm_may_run(v->vm)) {
		long before = switches(), made;

		vm_park(v->vm, v);
		made = switches() - before;
		if (made > atomic_load(&most_switches))
			atomic_store(&most_switches, made); /* that of another may get lost; it will come again */
		usleep(100);
	}
	vm_go(v->vm, v);
}

static int start(void **state)
{
	pthread_t thread;

	(void)state;
	vm = vm ? vm + 1 : vms;
	vm->num_vcpus = VCPUS;
	atomic_store(&most_switches, 0);
	pthread_mutex_init(&vm->park.lock, NULL);
	pthread_cond_init(&vm->park.came, NULL);
	pthread_cond_init(&vm->park.resumed, NULL);
	for (unsigned i = 0; i < VCPUS; i++) {
		vm->vcpu[i] = (struct vcpu){ .vm = vm, .id = i, .fd = -1, .started = true };
		pthread_create(&thread, NULL, vcpu, &vm->vcpu[i]);
		pthread_detach(thread);
	}
	return 0;
}

static void end(void)
{
	vm->end.fd = -1;
	vm->end.reason = VM_END_QUIT;
	vm_resume(vm);
	for (unsigned i = 0; i < VCPUS; i++)
		vcpu_join(&vm->vcpu[i]);
}

/* Four that had to hear of each other's arrival woke each other for ever, and the main thread did not get the lock. */
static void test_parked_vcpus_sleep(void **state)
{
	(void)state;
	for (unsigned i = 0; i < PAUSES; i++) {
		assert_true(vm_pause(vm, TIMEOUT_MS));
		usleep(PAUSE_MS * 1000);
		for (unsigned k = 0; k < VCPUS; k++)
			assert_true(vm->vcpu[k].parked);
		vm_resume(vm);
	}
	end();
	assert_in_range(atomic_load(&most_switches), 1, SWITCHES_MAX);
}

static void test_end_while_parked(void **state)
{
	(void)state;
	assert_true(vm_pause(vm, TIMEOUT_MS));
	end();
	for (unsigned k = 0; k < VCPUS; k++)
		assert_true(vm->vcpu[k].gone);
}

/* Pauses that follow at once meet vCPUs that have not noticed the end of the last. */
static void test_pause_again_and_again(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2000; i++) {
		assert_true(vm_pause(vm, TIMEOUT_MS));
		vm_resume(vm);
	}
	end();
}

static void test_timeout(void **state)
{
	(void)state;
	end();
	vm->vcpu[0].parked = false; /* it is gone, and will not come */
	assert_false(vm_pause(vm, 10));
	vm_resume(vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_parked_vcpus_sleep, start),
		cmocka_unit_test_setup(test_end_while_parked, start),
		cmocka_unit_test_setup(test_pause_again_and_again, start),
		cmocka_unit_test_setup(test_timeout, start),
	};

	return cmocka_run_group_tests_name("pause", tests, NULL, NULL);
}
