/* Time marks of one boot; see timeline.h. */
#include "vmm/vm/timeline.h"

#include <cpuid.h>
#include <errno.h>
#include <jansson.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/fdio.h"

/* clang-format off */
static const char *const step_names[TIMELINE_NUM_STEPS] = {
	[TIMELINE_MAIN] = "exec",
	[TIMELINE_CONFIG] = "config",
	[TIMELINE_PACK] = "packing",
	[TIMELINE_JAIL] = "jail",
	[TIMELINE_MEMORY] = "memory",
	[TIMELINE_KERNEL] = "kernel load",
	[TIMELINE_KVM] = "KVM objects",
	[TIMELINE_DEVICES] = "devices",
	[TIMELINE_VCPUS] = "vCPUs",
	[TIMELINE_RUN] = "first KVM_RUN",
	[TIMELINE_PID1] = "kernel to PID 1",
	[TIMELINE_OUTPUT] = "first output",
	[TIMELINE_INIT] = "to mayfly's init",
	[TIMELINE_ROOT] = "root mounted",
	[TIMELINE_NET] = "network up",
	[TIMELINE_STARTED] = "command started",
	[TIMELINE_BYTE] = "its first output",
	[TIMELINE_EXIT] = "its end",
	[TIMELINE_END] = "until the end",
	[TIMELINE_GONE] = "all put away",
};
/* clang-format on */

void timeline_init(struct timeline *t)
{
	struct timespec used;

	*t = (struct timeline){ .counter_fd = -1 };
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	/* The kernel gives the start of a process in ticks only; the CPU time since then is a closer estimate. */
	t->start_ns = clock_now_ns() - ((uint64_t)used.tv_sec * 1000000000 + (uint64_t)used.tv_nsec);
	timeline_mark(t, TIMELINE_MAIN);
}

void timeline_count_instructions(struct timeline *t)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_HARDWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_HW_INSTRUCTIONS,
		.inherit = 1,
		.exclude_hv = 1,
	};

	t->counter_fd = (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
	if (t->counter_fd < 0) {
		attr.exclude_kernel = 1; /* kernel.perf_event_paranoid = 2 */
		t->counter_fd = (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
	}
}

void timeline_mark(struct timeline *t, enum timeline_step step)
{
	uint64_t count = 0, ns;

	if (atomic_load_explicit(&t->mark[step].set, memory_order_relaxed))
		return;
	ns = clock_now_ns() - t->start_ns;
	if (t->counter_fd >= 0 && read(t->counter_fd, &count, sizeof(count)) != sizeof(count))
		count = 0;
	t->mark[step].ns = ns;
	t->mark[step].instructions = count;
	/* Pairs with the acquire in timeline_print. Of two threads here at once, either time is right. */
	atomic_store_explicit(&t->mark[step].set, true, memory_order_release);
}

static double timeline_to_ms(uint64_t ns)
{
	return (double)ns / 1e6;
}

void timeline_print(struct timeline *t)
{
	uint64_t last_ns = 0, last_count = 0;
	bool set[TIMELINE_NUM_STEPS];

	for (int i = 0; i < TIMELINE_NUM_STEPS; i++)
		set[i] = atomic_load_explicit(&t->mark[i].set, memory_order_acquire);
	if (t->from)
		fprintf(stderr,
			"boot: from a %s; %.2f ms to the first guest instruction, %.2f ms to init, %.2f ms in all\n",
			t->from, timeline_to_ms(t->mark[TIMELINE_RUN].ns), timeline_to_ms(t->mark[TIMELINE_INIT].ns),
			timeline_to_ms(t->mark[TIMELINE_END].ns));
	else if (set[TIMELINE_RUN] && set[TIMELINE_PID1])
		fprintf(stderr,
			"boot: cold; %.2f ms to the first guest instruction, %.2f ms to PID 1, %.2f ms in all\n",
			timeline_to_ms(t->mark[TIMELINE_RUN].ns), timeline_to_ms(t->mark[TIMELINE_PID1].ns),
			timeline_to_ms(t->mark[TIMELINE_END].ns));
	else
		fprintf(stderr, "boot: the guest opened no console for PID 1; %.2f ms in all\n",
			timeline_to_ms(t->mark[TIMELINE_END].ns));
	fprintf(stderr, "  %-16s %10s %10s %14s\n", "step", "ms", "at ms", "instructions");
	for (int i = 0; i < TIMELINE_NUM_STEPS; i++) {
		if (!set[i])
			continue;
		fprintf(stderr, "  %-16s %10.3f %10.3f ", step_names[i], timeline_to_ms(t->mark[i].ns - last_ns),
			timeline_to_ms(t->mark[i].ns));
		if (t->mark[i].instructions)
			fprintf(stderr, "%14llu\n", (unsigned long long)(t->mark[i].instructions - last_count));
		else
			fprintf(stderr, "%14s\n", "-");
		last_ns = t->mark[i].ns;
		last_count = t->mark[i].instructions;
	}
}

size_t timeline_text(struct timeline *t, char *text, size_t size)
{
	size_t len = 0;

	for (unsigned i = 0; i < TIMELINE_NUM_STEPS; i++) {
		if (!atomic_load_explicit(&t->mark[i].set, memory_order_acquire))
			continue;
		len += (size_t)snprintf(text + len, size - len, "%s\"%s\": %.3f", len ? ", " : "", step_names[i],
					timeline_to_ms(t->mark[i].ns));
		if (len >= size)
			return 0;
	}
	return len;
}

const char *timeline_step_name(enum timeline_step step)
{
	return step_names[step];
}

static json_t *timeline_step_json(const struct timeline *t, unsigned i)
{
	json_t *step = json_pack("{s:s,s:I}", "step", step_names[i], "at_ns", (json_int_t)t->mark[i].ns);

	if (step && t->mark[i].instructions &&
	    json_object_set_new(step, "instructions", json_integer((json_int_t)t->mark[i].instructions)) < 0) {
		json_decref(step);
		return NULL;
	}
	return step;
}

#define CPU_NAME_LEAF 0x80000002U
#define CPU_NAME_LEAVES 3
#define CPU_NAME_LEN (CPU_NAME_LEAVES * 16)

/* The name that the processor has for itself, which takes no file; "unknown" if it has none. */
static void timeline_cpu_name(char name[static CPU_NAME_LEN + 1])
{
	unsigned regs[CPU_NAME_LEAVES][4];
	size_t spaces;

	snprintf(name, CPU_NAME_LEN + 1, "unknown");
	for (unsigned i = 0; i < CPU_NAME_LEAVES; i++)
		if (!__get_cpuid(CPU_NAME_LEAF + i, &regs[i][0], &regs[i][1], &regs[i][2], &regs[i][3]))
			return;
	memcpy(name, regs, CPU_NAME_LEN);
	name[CPU_NAME_LEN] = '\0';
	/* Intel aligns it to the right. */
	spaces = strspn(name, " ");
	memmove(name, name + spaces, CPU_NAME_LEN + 1 - spaces);
}

/* Returns 0 or -1. */
static int timeline_put_about(const struct timeline_about *about, json_t *root)
{
	char cpu[CPU_NAME_LEN + 1];
	json_t *kvm;

	timeline_cpu_name(cpu);
	/* A name that is not UTF-8 is left out. */
	(void)json_object_set_new(root, "cpu", json_string(cpu));
	if (about->kernel)
		(void)json_object_set_new(root, "kernel", json_string(about->kernel));
	if (json_object_set_new(root, "host_kernel", json_string(about->host.release)) < 0)
		return -1;
	if (!about->kvm.num)
		return 0;
	kvm = json_object();
	for (unsigned i = 0; i < about->kvm.num; i++)
		if (json_object_set_new(kvm, about->kvm.stat[i].name,
					json_integer((json_int_t)about->kvm.stat[i].value)) < 0) {
			json_decref(kvm);
			return -1;
		}
	return json_object_set_new(root, "kvm", kvm);
}

struct json_t *timeline_json(struct timeline *t)
{
	json_t *steps = json_array(), *root;

	for (unsigned i = 0; i < TIMELINE_NUM_STEPS; i++) {
		if (!atomic_load_explicit(&t->mark[i].set, memory_order_acquire))
			continue;
		/* A failure leaves a NULL, which makes json_pack fail below. */
		(void)json_array_append_new(steps, timeline_step_json(t, i));
	}
	root = json_pack("{s:i,s:s,s:s,s:I,s:o}", "version", 1, "mayfly", MF_VERSION, "boot",
			 t->from ? t->from : "cold", "start_ns", (json_int_t)t->start_ns, "steps", steps);
	if (root && t->about && timeline_put_about(t->about, root) < 0) {
		json_decref(root);
		return NULL;
	}
	return root;
}

int timeline_write(struct timeline *t, int fd)
{
	json_t *root = timeline_json(t);
	char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
	int r = -ENOMEM;

	if (text)
		r = fdio_write_all(fd, text, strlen(text));
	if (r == 0)
		r = fdio_write_all(fd, "\n", 1);
	free(text);
	json_decref(root);
	return r;
}
