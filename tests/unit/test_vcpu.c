/* What a vCPU does with the exits of its guest. */
#include <errno.h>
#include <linux/kvm.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/vcpu_fixture.h"

/* The next exit of the guest. */
static struct kvm_run template;

static int turn_template(struct world *mine)
{
	struct kvm_run *run = mine->run;

	run->exit_reason = template.exit_reason;
	memcpy(run->padding, template.padding, sizeof(run->padding));
	return 0;
}

static void test_exits_that_end(void **state)
{
	static const struct {
		uint32_t exit;
		enum vm_end_reason reason;
		uint64_t number; /* in its first words, and in the text */
	} cases[] = {
		{ KVM_EXIT_SHUTDOWN, VM_END_TRIPLE_FAULT, 3 },
		{ KVM_EXIT_SYSTEM_EVENT, VM_END_RESET, 77 },
		{ KVM_EXIT_FAIL_ENTRY, VM_END_KVM, 0x8000002122ULL },
		{ KVM_EXIT_INTERNAL_ERROR, VM_END_KVM, 41 },
		{ KVM_EXIT_HYPERCALL, VM_END_KVM, KVM_EXIT_HYPERCALL },
		{ KVM_EXIT_UNKNOWN, VM_END_KVM, KVM_EXIT_UNKNOWN },
		{ KVM_EXIT_HLT, VM_END_KVM, KVM_EXIT_HLT },
		{ KVM_EXIT_DEBUG, VM_END_KVM, KVM_EXIT_DEBUG },
		{ 12345, VM_END_KVM, 12345 },
	};

	for (size_t i = 0; i < MF_ARRAY_SIZE(cases); i++) {
		char decimal[24], hex[24];

		setup(state);
		memset(&template, 0, sizeof(template));
		template.exit_reason = cases[i].exit;
		memcpy(template.padding, &cases[i].number, sizeof(cases[i].number));
		run(turn_template, turn_end);
		assert_int_equal(vm_end_reason(&w->end), cases[i].reason);
		assert_int_equal(atomic_load(&w->turns), 1);
		snprintf(decimal, sizeof(decimal), "%llu", (unsigned long long)cases[i].number);
		snprintf(hex, sizeof(hex), "%llx", (unsigned long long)cases[i].number);
		assert_true(strstr(w->end.text, decimal) || strstr(w->end.text, hex));
	}
}

static void test_exits_that_go_on(void **state)
{
	static const uint32_t exits[] = { KVM_EXIT_INTR, KVM_EXIT_IRQ_WINDOW_OPEN, KVM_EXIT_SET_TPR,
					  KVM_EXIT_IOAPIC_EOI };

	for (size_t i = 0; i < MF_ARRAY_SIZE(exits); i++) {
		setup(state);
		memset(&template, 0, sizeof(template));
		template.exit_reason = exits[i];
		run(turn_template, turn_end);
		assert_int_equal(vm_end_reason(&w->end), VM_END_QUIT);
		assert_int_equal(atomic_load(&w->turns), 2);
	}
}

/* A string instruction: count items of size bytes, one after the other, at one port. */
static void io(unsigned direction, uint16_t port, uint8_t size, uint32_t count)
{
	uint8_t *data = (uint8_t *)w->run + IO_OFFSET;

	memset(&template, 0, sizeof(template));
	template.exit_reason = KVM_EXIT_IO;
	template.io.direction = (uint8_t)direction;
	template.io.port = port;
	template.io.size = size;
	template.io.count = count;
	template.io.data_offset = IO_OFFSET;
	for (unsigned i = 0; i < 64; i++)
		data[i] = (uint8_t)i;
	run(turn_template, turn_end);
	assert_int_equal(vm_end_reason(&w->end), VM_END_QUIT);
}

static void test_port_output(void **state)
{
	static const uint8_t sizes[] = { 1, 2, 4 };

	for (size_t i = 0; i < MF_ARRAY_SIZE(sizes); i++) {
		setup(state);
		io(KVM_EXIT_IO_OUT, DEVICE + 4, sizes[i], 3);
		assert_int_equal(w->accesses, 3);
		for (unsigned n = 0; n < 3; n++) {
			assert_int_equal(w->access[n].offset, 4);
			assert_true(w->access[n].is_write);
			assert_int_equal(w->access[n].len, sizes[i]);
			assert_memory_equal(w->access[n].data, (uint8_t *)w->run + IO_OFFSET + n * sizes[i], sizes[i]);
		}
	}
}

static void test_port_input(void **state)
{
	const uint8_t *data;

	(void)state;
	io(KVM_EXIT_IO_IN, DEVICE, 2, 2);
	data = (const uint8_t *)w->run + IO_OFFSET;
	assert_int_equal(w->accesses, 2);
	assert_false(w->access[0].is_write);
	assert_memory_equal(data, "\x40\x40\x41\x41\x04", 5);
	/* There is no device: all ones. */
	setup(state);
	io(KVM_EXIT_IO_IN, DEVICE + DEVICE_LEN, 4, 1);
	data = (const uint8_t *)w->run + IO_OFFSET;
	assert_int_equal(w->accesses, 0);
	assert_memory_equal(data, "\xff\xff\xff\xff\x04", 5);
}

static void mmio(uint64_t gpa, bool is_write, uint32_t len)
{
	memset(&template, 0, sizeof(template));
	template.exit_reason = KVM_EXIT_MMIO;
	template.mmio.phys_addr = gpa;
	template.mmio.is_write = is_write;
	template.mmio.len = len;
	memcpy(template.mmio.data, "12345678", 8);
	run(turn_template, turn_end);
}

static void test_mmio(void **state)
{
	(void)state;
	mmio(MEM_GAP_START + 8, true, 8);
	assert_int_equal(w->accesses, 1);
	assert_int_equal(w->access[0].offset, 8);
	assert_true(w->access[0].is_write);
	assert_int_equal(w->access[0].len, 8);
	assert_memory_equal(w->access[0].data, "12345678", 8);
	setup(state);
	mmio(MEM_GAP_START, false, 4);
	assert_int_equal(w->accesses, 1);
	assert_false(w->access[0].is_write);
	assert_memory_equal(w->run->mmio.data,
			    "\x40\x40\x40\x40"
			    "5678",
			    8);
	assert_int_equal(vm_end_reason(&w->end), VM_END_QUIT);
	setup(state);
	mmio(MEM_GAP_START + DEVICE_LEN, false, 4);
	assert_memory_equal(w->run->mmio.data,
			    "\xff\xff\xff\xff"
			    "5678",
			    8);
}

/* KVM exits for RAM only if its file has lost it. */
static void test_lost_memory(void **state)
{
	(void)state;
	mmio(RAM_SIZE - 1, false, 4);
	assert_int_equal(vm_end_reason(&w->end), VM_END_KVM);
	assert_int_equal(w->accesses, 0);
	setup(state);
	mmio(RAM_SIZE, false, 4);
	assert_int_equal(vm_end_reason(&w->end), VM_END_QUIT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ONE(test_exits_that_end), ONE(test_exits_that_go_on), ONE(test_port_output), ONE(test_port_input),
		ONE(test_mmio),		  ONE(test_lost_memory),
	};

	return cmocka_run_group_tests(tests, group_setup, NULL);
}
