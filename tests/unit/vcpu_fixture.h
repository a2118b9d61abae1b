/*
 * A vCPU without KVM: the test is the ioctl(2) that runs the guest, and writes its exits into the page of kvm_run. Include
 * it once, in a test.
 */
#ifndef MF_TESTS_UNIT_VCPU_FIXTURE_H
#define MF_TESTS_UNIT_VCPU_FIXTURE_H

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

static inline void make(unsigned id)
{
	assert_true(++w < worlds + MF_ARRAY_SIZE(worlds));
	w->kvm = (struct kvm){ .fd = -1, .vm_fd = 100, .run_size = RUN_SIZE };
	w->confine.value[SLOT_PID] = getpid();
	w->gate = (struct gate)GATE_INIT;
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

static inline int setup(void **state)
{
	(void)state;
	make(3);
	return 0;
}

static inline void start(void)
{
	assert_int_equal(vcpu_start(&w->vcpu, &err), 0);
}

/* The VM ends, by its guest or by the test. */
static inline void finish(void)
{
	vm_end(&w->end, VM_END_QUIT, "the test");
	vcpu_kick(&w->vcpu);
	gate_open(&w->gate);
	gate_await_left(&w->gate);
}

/* Runs the guest until it has ended. */
static inline void run(turn *first, turn *second)
{
	w->turn[0] = first;
	w->turn[1] = second;
	start();
	gate_await_left(&w->gate);
}

static inline int turn_end(struct world *mine)
{
	vm_end(&mine->end, VM_END_QUIT, "the next turn");
	return EINTR;
}

static inline int group_setup(void **state)
{
	(void)state;
	return vcpu_signal_setup(&err);
}

#define ONE(test) cmocka_unit_test_setup(test, setup)

#endif
