/* A vCPU of a snapshot that this host does not have is refused before there is one. */
#include "tests/unit/cpu_fixture.h"

/* Without a vCPU, and without a VM, if the TSC can be scaled. */
static int check(void)
{
	struct kvm k = { .fd = KVM_FD, .vm_fd = -1 };
	struct state_in in;
	int r;

	host.calls = host.num_set = host.vms = 0;
	assert_int_equal(state_in_init(&in, file, file_len, &err), 0);
	r = cpu_state_check(&k, 3, &in, &err);
	for (unsigned i = 0; i < host.calls; i++)
		assert_true(host.order[i] == KVM_GET_MSR_INDEX_LIST || host.order[i] == KVM_CREATE_VM ||
			    host.order[i] == KVM_SET_TSS_ADDR || host.order[i] == KVM_GET_TSC_KHZ);
	assert_int_equal(k.vm_fd, host.vms ? VM_FD : -1);
	return r ? r : state_in_finish(&in, &err);
}

static void expect_refused(const char *there, const char *here)
{
	assert_int_equal(check(), -ENOTSUP);
	assert_non_null(strstr(err.text, there));
	assert_non_null(strstr(err.text, here));
	assert_int_equal(restore(), -ENOTSUP); /* as later */
}

static void test_check(void **state)
{
	host.tsc_control = true;
	save();
	assert_int_equal(check(), 0);
	assert_int_equal(host.vms, 0);
	/* Another TSC. */
	host.khz = 2000501;
	assert_int_equal(check(), 0);
	host.tsc_control = false;
	expect_refused("2000000", "2000501");
	host.khz = 2000499;
	assert_int_equal(check(), 0);
	assert_int_equal(host.vms, 1);
	/* A smaller XSAVE. */
	setup(state);
	host.xsave_size = 8192;
	save();
	host.xsave_size = 0;
	expect_refused("8192", "4096");
	/* PAE, and no call for its registers. */
	setup(state);
	host.s.sregs.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
	save();
	host.sregs2 = false;
	assert_int_equal(check(), -ENOTSUP);
	/* An MSR that this host does not have; one that was 0 was not used. */
	setup(state);
	save();
	host.msr[2].index = 0x999;
	assert_int_equal(check(), -ENOTSUP);
	assert_non_null(strstr(err.text, "0x174"));
	setup(state);
	host.msr[2].data = 0;
	save();
	host.msr[2].index = 0x999;
	assert_int_equal(check(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test_setup(test_check, setup) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
