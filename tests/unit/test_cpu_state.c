/* The state of a vCPU in a snapshot. */
#include "tests/unit/cpu_fixture.h"

/* Every byte of the state is another one than its neighbours. */
static void fill(void *p, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		((uint8_t *)p)[i] = (uint8_t)(seed + i * 7 + 1);
}

static unsigned place(unsigned long request)
{
	for (unsigned i = 0; i < host.calls; i++)
		if (host.order[i] == request)
			return i;
	fail_msg("request 0x%lx was not made", request);
	return 0;
}

/* Everything comes back, by way of the file. */
static void test_round_trip(void **state)
{
	struct host before;

	for (unsigned variant = 0; variant < 4; variant++) {
		setup(state);
		host.xsave_size = variant & 1 ? 8192 : 0;
		host.sregs2 = variant & 2;
		fill(&host.s, offsetof(struct cpu_state, msrs), 3);
		fill(host.xsave, sizeof(host.xsave), 5);
		host.s.xcrs.nr_xcrs = 2;
		if (!host.sregs2)
			host.s.sregs.flags = 0;
		else
			host.s.sregs.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
		before = host;
		save();
		setup(state);
		host.xsave_size = before.xsave_size;
		host.sregs2 = before.sregs2;
		for (unsigned i = 0; i < MSRS; i++)
			host.msr[i].data = 0;
		assert_int_equal(restore(), 0);
		assert_memory_equal(&host.s.mp, &before.s.mp, sizeof(before.s.mp));
		assert_memory_equal(&host.s.regs, &before.s.regs, sizeof(before.s.regs));
		assert_int_equal(host.s.sregs.cr3, before.s.sregs.cr3);
		assert_int_equal(host.s.sregs.apic_base, before.s.sregs.apic_base);
		assert_int_equal(host.s.sregs.tr.base, before.s.sregs.tr.base);
		assert_int_equal(host.s.sregs.tr.unusable, before.s.sregs.tr.unusable);
		assert_int_equal(host.s.sregs.idt.limit, before.s.sregs.idt.limit);
		if (host.sregs2)
			assert_memory_equal(host.s.sregs.pdptrs, before.s.sregs.pdptrs, sizeof(before.s.sregs.pdptrs));
		assert_memory_equal(host.s.interrupts, before.s.interrupts, sizeof(before.s.interrupts));
		assert_int_equal(host.s.xcrs.xcrs[1].value, before.s.xcrs.xcrs[1].value);
		assert_memory_equal(host.s.debug.db, before.s.debug.db, sizeof(before.s.debug.db));
		assert_int_equal(host.s.debug.dr7, before.s.debug.dr7);
		assert_int_equal(host.s.events.exception_payload, before.s.events.exception_payload);
		assert_int_equal(host.s.events.smi.latched_init, before.s.events.smi.latched_init);
		assert_int_equal(host.s.events.flags, before.s.events.flags);
		assert_memory_equal(&host.s.lapic, &before.s.lapic, sizeof(before.s.lapic));
		assert_memory_equal(host.xsave, before.xsave,
				    host.xsave_size ? host.xsave_size : sizeof(struct kvm_xsave));
		assert_memory_equal(host.msr, before.msr, sizeof(before.msr));
	}
}

static void test_order(void **state)
{
	(void)state;
	save();
	assert_int_equal(restore(), 0);
	/* The APIC base before the APIC; its timer's mode and the TSC before the deadline; events last. */
	assert_true(place(KVM_SET_SREGS) < place(KVM_SET_LAPIC));
	assert_true(place(KVM_SET_LAPIC) < place(KVM_SET_MSRS));
	assert_true(place(KVM_SET_MSRS) < place(KVM_SET_VCPU_EVENTS));
	assert_int_equal(host.num_set, MSRS);
	assert_int_equal(host.set[0], 0x10);
	assert_int_equal(host.set[MSRS - 1], DEADLINE);
}

static void test_msrs_that_are_missing(void **state)
{
	(void)state;
	host.unreadable[0] = host.unreadable[3] = true;
	save();
	assert_int_equal(restore(), 0);
	assert_int_equal(host.num_set, 3);
	/* One that was 0 was not used; any other is needed. */
	setup(state);
	host.msr[2].data = 0;
	save();
	host.refuses = host.msr[2].index;
	assert_int_equal(restore(), 0);
	assert_int_equal(host.num_set, MSRS - 1);
	setup(state);
	save();
	host.refuses = host.msr[2].index;
	assert_int_equal(restore(), -ENOTSUP);
	assert_non_null(strstr(err.text, "0x174"));
}

static void test_tsc(void **state)
{
	(void)state;
	save();
	host.khz = 2000499; /* 249.5 ppm */
	assert_int_equal(restore(), 0);
	assert_int_equal(host.scaled, 0);
	host.khz = 2000501;
	assert_int_equal(restore(), -ENOTSUP);
	assert_non_null(strstr(err.text, "2000000"));
	assert_non_null(strstr(err.text, "2000501"));
	host.tsc_control = true;
	assert_int_equal(restore(), 0);
	assert_int_equal(host.scaled, 2000000);
}

static void test_smaller_host(void **state)
{
	(void)state;
	host.xsave_size = 8192;
	save();
	host.xsave_size = 0;
	assert_int_equal(restore(), -ENOTSUP);
	setup(state);
	host.s.sregs.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
	save();
	host.sregs2 = false;
	assert_int_equal(restore(), -ENOTSUP);
}

static void test_failures(void **state)
{
	static const unsigned long gets[] = { KVM_GET_MP_STATE,	   KVM_GET_REGS,	  KVM_GET_SREGS,
					      KVM_GET_SREGS2,	   KVM_GET_XSAVE,	  KVM_GET_XCRS,
					      KVM_GET_LAPIC,	   KVM_GET_DEBUGREGS,	  KVM_GET_MSRS,
					      KVM_GET_VCPU_EVENTS, KVM_GET_MSR_INDEX_LIST };
	static const unsigned long sets[] = { KVM_SET_MP_STATE, KVM_SET_REGS, KVM_SET_SREGS,
					      KVM_SET_XSAVE,	KVM_SET_XCRS, KVM_SET_DEBUGREGS,
					      KVM_SET_LAPIC,	KVM_SET_MSRS, KVM_SET_VCPU_EVENTS };
	struct state_out out;

	(void)state;
	save();
	for (size_t i = 0; i < MF_ARRAY_SIZE(gets); i++) {
		host.calls = 0;
		host.fails = gets[i];
		state_out_init(&out, file + sizeof(file) / 2, sizeof(file) / 2);
		assert_int_equal(cpu_state_save(&kvm, VCPU_FD, 3, &out, &err), -EIO);
	}
	for (size_t i = 0; i < MF_ARRAY_SIZE(sets); i++) {
		host.fails = sets[i];
		assert_int_equal(restore(), -EIO);
	}
}

/* With a right checksum and wrong lengths. */
static void test_hostile(void **state)
{
	struct state_out out;
	struct state_in in;
	uint8_t byte = 0;
	int64_t len;

	(void)state;
	for (size_t size = 0; size < 8192; size += 61) {
		state_out_init(&out, file, sizeof(file));
		state_begin(&out, CPU_STATE_TAG, 3, CPU_STATE_VERSION);
		for (size_t i = 0; i < size; i++)
			state_put_bytes(&out, (byte = (uint8_t)(0xff - i % 3), &byte), 1);
		state_end(&out);
		len = state_out_finish(&out);
		assert_true(len > 0);
		assert_int_equal(state_in_init(&in, file, (size_t)len, &err), 0);
		host.calls = 0;
		assert_int_equal(cpu_state_restore(&kvm, VCPU_FD, 3, &in, &err), -EINVAL);
		assert_int_equal(host.calls, 0);
	}
}

static void test_clock(void **state)
{
	const uint64_t hour = 3600ULL * 1000000000U;
	struct state_out out;
	struct state_in in;
	struct timespec now;
	int64_t len;

	(void)state;
	clock_gettime(CLOCK_REALTIME, &now);
	host.clock = (struct kvm_clock_data){ .clock = 5000,
					      .realtime = (uint64_t)now.tv_sec * 1000000000U - hour,
					      .flags = 1U << 2 };
	state_out_init(&out, file, sizeof(file));
	assert_int_equal(cpu_clock_save(&kvm, &out, &err), 0);
	len = state_out_finish(&out);
	for (unsigned catch_up = 0; catch_up < 2; catch_up++) {
		host.clock = (struct kvm_clock_data){ 0 };
		assert_int_equal(state_in_init(&in, file, (size_t)len, &err), 0);
		assert_int_equal(cpu_clock_restore(&kvm, catch_up, &in, &err), 0);
		if (catch_up)
			assert_in_range(host.clock.clock, hour + 5000, 2 * hour);
		else
			assert_int_equal(host.clock.clock, 5000);
	}
}

int main(void)
{
#define ONE(test) cmocka_unit_test_setup(test, setup)
	const struct CMUnitTest tests[] = {
		ONE(test_round_trip), ONE(test_order),	      ONE(test_msrs_that_are_missing),
		ONE(test_tsc),	      ONE(test_smaller_host), ONE(test_failures),
		ONE(test_hostile),    ONE(test_clock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
