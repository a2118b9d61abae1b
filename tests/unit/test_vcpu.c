/* A vCPU without KVM: the test is the ioctl(2) that runs the guest, and writes its exits into the page of kvm_run. */
#include <errno.h>
#include <linux/kvm.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/core/bus.h"
#include "vmm/core/kvm.h"
#include "vmm/core/mem.h"
#include "vmm/process/confine.h"
#include "vmm/process/crash.h"
#include "vmm/vm/gate.h"
#include "vmm/vm/halt.h"
#include "vmm/vm/timeline.h"
#include "vmm/vm/vcpu.h"
#include "vmm/vm/vm_end.h"

#define RUN_SIZE (3 * MF_PAGE_SIZE)
#define IO_OFFSET MF_PAGE_SIZE
#define RAM_SIZE (1 * MIB)
#define DEVICE 0x1000U
#define DEVICE_LEN 0x10U
#define ACCESSES_MAX 16U
#define TIMEOUT_MS 60000

/* One turn of KVM_RUN: fills the page and returns 0, or an errno. */
struct world;
typedef int turn(struct world *w);

/* One for each test: its thread stays until the process ends. */
static struct world {
	struct vcpu vcpu;
	struct vcpu_env env;
	struct kvm kvm;
	struct mem mem;
	struct bus ports, mmio;
	struct confine confine;
	struct gate gate;
	struct vm_end end;
	struct halt halt;
	struct timeline timeline;
	turn *turn[4];	   /* the last one is repeated */
	atomic_uint turns; /* made */
	struct kvm_run *run;
	struct {
		uint64_t offset;
		bool is_write;
		unsigned len;
		uint8_t data[8];
	} access[ACCESSES_MAX];
	unsigned accesses;
	int confine_result;
	atomic_bool confined, waits; /* waits: inside KVM_RUN */
	int mp_state;
} worlds[64], *w = worlds;

static struct err err;

/* What vcpu.c calls. */

static int fake_create(void)
{
	int fd;

	if (w->kvm.vm_fd < 0) {
		errno = ENOMEM;
		return -1;
	}
	fd = memfd_create("run", MFD_CLOEXEC);
	assert_int_equal(ftruncate(fd, RUN_SIZE), 0);
	w->run = mmap(NULL, RUN_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(w->run != MAP_FAILED);
	return fd;
}

static int fake_run(struct world *mine)
{
	unsigned n = atomic_fetch_add(&mine->turns, 1);
	int r;

	/* As the real one does, before it enters the guest. */
	if (__atomic_load_n(&mine->run->immediate_exit, __ATOMIC_SEQ_CST)) {
		errno = EINTR;
		return -1;
	}
	for (n = MF_MIN(n, MF_ARRAY_SIZE(mine->turn) - 1); !mine->turn[n]; n--)
		;
	r = mine->turn[n](mine);
	errno = r;
	return r ? -1 : 0;
}

static struct world *world_of(int vcpu_fd)
{
	for (struct world *i = w; i > worlds; i--) {
		if (i->run && i->vcpu.fd == vcpu_fd)
			return i;
	}
	return NULL;
}

int ioctl(int fd, unsigned long request, ...)
{
	struct world *mine = world_of(fd);
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (request == KVM_CREATE_VCPU)
		return fake_create();
	if (request == KVM_RUN && mine)
		return fake_run(mine);
	if (request == KVM_GET_MP_STATE && mine && mine->mp_state >= 0) {
		((struct kvm_mp_state *)arg)->mp_state = (uint32_t)mine->mp_state;
		return 0;
	}
	errno = EINVAL;
	return -1;
}

int confine_thread(const struct confine *c, enum thread_kind kind, const struct confine_own *own, struct err *e)
{
	struct world *mine = world_of(own->own);

	assert_ptr_equal(c, &mine->confine);
	assert_int_equal(kind, THREAD_VCPU);
	atomic_store(&mine->confined, true);
	return mine->confine_result ? err_set(e, mine->confine_result, "no filter") : 0;
}

void crash_thread(void)
{
}

/* The VM. */

static void on_access(void *ctx, uint64_t offset, bool is_write, uint8_t *data, unsigned len)
{
	struct world *mine = ctx;

	if (mine->accesses == ACCESSES_MAX)
		return;
	mine->access[mine->accesses].offset = offset;
	mine->access[mine->accesses].is_write = is_write;
	mine->access[mine->accesses].len = len;
	memcpy(mine->access[mine->accesses].data, data, len);
	if (!is_write)
		memset(data, 0x40 + (int)mine->accesses, len);
	mine->accesses++;
}

static void make(unsigned id)
{
	assert_true(++w < worlds + MF_ARRAY_SIZE(worlds));
	w->kvm = (struct kvm){ .fd = -1, .vm_fd = 100, .run_size = RUN_SIZE };
	w->confine.value[SLOT_PID] = getpid();
	gate_init(&w->gate);
	timeline_init(&w->timeline);
	halt_begin(&w->halt, 0);
	assert_int_equal(vm_end_init(&w->end, &w->timeline, &err), 0);
	assert_int_equal(mem_init(&w->mem, RAM_SIZE, &err), 0);
	assert_int_equal(bus_add(&w->ports, DEVICE, DEVICE_LEN, on_access, w), 0);
	assert_int_equal(bus_add(&w->mmio, MEM_GAP_START, DEVICE_LEN, on_access, w), 0);
	w->env = (struct vcpu_env){ .kvm = &w->kvm,
				    .mem = &w->mem,
				    .ports = &w->ports,
				    .mmio = &w->mmio,
				    .confine = &w->confine,
				    .gate = &w->gate,
				    .end = &w->end,
				    .halt = &w->halt,
				    .timeline = &w->timeline };
	assert_int_equal(vcpu_init(&w->vcpu, &w->env, id, &err), 0);
}

static int setup(void **state)
{
	(void)state;
	make(3);
	return 0;
}

static void start(void)
{
	assert_int_equal(vcpu_start(&w->vcpu, &err), 0);
}

/* The VM ends, by its guest or by the test. */
static void finish(void)
{
	vm_end(&w->end, VM_END_QUIT, "the test");
	vcpu_kick(&w->vcpu);
	gate_open(&w->gate);
	gate_await_left(&w->gate);
}

/* Runs the guest until it has ended. */
static void run(turn *first, turn *second)
{
	w->turn[0] = first;
	w->turn[1] = second;
	start();
	gate_await_left(&w->gate);
}

static int turn_end(struct world *mine)
{
	vm_end(&mine->end, VM_END_QUIT, "the next turn");
	return EINTR;
}

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
		assert_int_equal(w->run->immediate_exit, 0); /* it is not ended once more for nothing */
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
	vcpu_done(&w->vcpu);
}

/* What is half built: it can be kicked, and taken down. */
static void test_no_vcpu(void **state)
{
	struct vcpu v;

	(void)state;
	vcpu_done(&w->vcpu);
	w->kvm.vm_fd = -1;
	assert_int_equal(vcpu_init(&v, &w->env, 0, &err), -ENOMEM);
	vcpu_kick(&v);
	vcpu_done(&v);
	w->kvm = (struct kvm){ .vm_fd = 100, .run_size = 1ULL << 60 };
	assert_true(vcpu_init(&v, &w->env, 0, &err) < 0);
	vcpu_kick(&v);
	vcpu_done(&v);
	assert_int_equal(close(v.fd), -1);
}

static int group_setup(void **state)
{
	(void)state;
	return vcpu_signal_setup(&err);
}

int main(void)
{
#define ONE(test) cmocka_unit_test_setup(test, setup)
	const struct CMUnitTest tests[] = {
		ONE(test_exits_that_end),
		ONE(test_exits_that_go_on),
		ONE(test_port_output),
		ONE(test_port_input),
		ONE(test_mmio),
		ONE(test_lost_memory),
		ONE(test_pause),
		ONE(test_kick_while_parked),
		ONE(test_start),
		ONE(test_refusals),
		ONE(test_guest_is_active),
		ONE(test_dead),
		ONE(test_no_vcpu),
	};

	return cmocka_run_group_tests(tests, group_setup, NULL);
}
