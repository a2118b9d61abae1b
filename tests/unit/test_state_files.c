/*
 * States that earlier versions of mayfly have written are read for good: tests/snapshot has them. And 100,000 mutations
 * of one, with right checksums: each is read or refused, and no byte beyond it is touched.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include <cmocka.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/core/kvm.h"
#include "vmm/core/state.h"
#include "vmm/snapshot/diff.h"
#include "vmm/snapshot/memory.h"
#include "vmm/vm/cpu_state.h"
#include "vmm/vm/cpu_x86.h"

#define DIR "tests/snapshot/"
#define HEADER_LEN 24
#define MUTATIONS 100000
#define ROOM 65536

static const struct kvm kvm = { .fd = -1, .vm_fd = -1 };
static struct cpu_template *template;
static struct err err;

/* A KVM that has every CPU feature, and takes all. */
int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;

	(void)fd;
	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	switch (request) {
	case KVM_CHECK_EXTENSION:
		return (unsigned long)arg == KVM_CAP_XSAVE2 ? 4096 : 1;
	case KVM_SET_MSRS:
		return (int)((struct kvm_msrs *)arg)->nmsrs;
	case KVM_GET_SUPPORTED_CPUID:
		((struct kvm_cpuid2 *)arg)->nent = 0;
		return 0;
	default:
		return 0;
	}
}

static size_t load(const char *path, uint8_t *to)
{
	FILE *file = fopen(path, "r");
	size_t len;

	if (!file)
		fail_msg("no %s: run it in the root of the tree", path);
	len = fread(to, 1, ROOM, file);
	fclose(file);
	assert_true(len > HEADER_LEN && len < ROOM);
	return len;
}

/* Reads the section that comes next. Returns what its reader does; 1 for one of another file. */
static int read_section(struct state_in *in, uint32_t tag)
{
	static struct diff diff;
	static struct memory_map map; /* comes before the other */
	struct memory_map read;
	int r;

	switch (tag) {
	case MEMORY_TAG:
		r = memory_get(&read, in, &err);
		if (r == 0)
			map = read;
		return r;
	case DIFF_TAG:
		return diff_get(&diff, &map, in, &err);
	case CPU_CPUID_TAG:
		return cpu_template_restore(template, in, &err);
	case CPU_STATE_TAG:
		return cpu_state_restore(&kvm, 0, 0, in, &err);
	case CPU_CLOCK_TAG:
		return cpu_clock_restore(&kvm, false, in, &err);
	default:
		return 1;
	}
}

static uint32_t word(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static int setup(void **state)
{
	(void)state;
	srand(1);
	return cpu_template_new(&template, &kvm, 1, &err);
}

static int teardown(void **state)
{
	(void)state;
	cpu_template_free(template);
	return 0;
}

/* Each of our sections, with the checksums and versions that it was written with. */
static void test_earlier_states(void **state)
{
	static const char *const files[] = { DIR "keep/state", DIR "diff/state" };
	static uint8_t data[ROOM];
	struct state_in in;
	unsigned num = 0;

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(files); i++) {
		size_t len = load(files[i], data);

		assert_int_equal(state_in_init(&in, data, len, &err), 0);
		while (in.at < in.end) {
			uint32_t tag = word(in.at), left = word(in.at + 12);
			int r = read_section(&in, tag);

			/* The CPU may be one that this KVM does not have: a refusal of that, after all was read. */
			if (r < 0 && !(tag == CPU_CPUID_TAG && r == -ENOTSUP && strstr(err.text, "CPU")))
				fail_msg("%s: %s", files[i], err.text);
			num += r <= 0;
			if (r > 0)
				in.at += HEADER_LEN + mf_align_up(left, 8);
		}
	}
	assert_int_equal(num, 4 * MF_ARRAY_SIZE(files) + 1); /* one is of pages alone */
}

static size_t mutate(uint8_t *payload, size_t len)
{
	for (int n = rand() % 4; len && n >= 0; n--) {
		size_t at = (size_t)rand() % len;

		switch (rand() % 4) {
		case 0:
			payload[at] = (uint8_t)rand();
			break;
		case 1:
			payload[at] ^= (uint8_t)(1 << rand() % 8);
			break;
		case 2:
			memset(payload + at, rand() % 2 ? 0xff : 0, MF_MIN(len - at, 8U));
			break;
		default:
			len = rand() % 8 ? len : at;
		}
	}
	return len;
}

static void test_mutations(void **state)
{
	static uint8_t data[ROOM], payload[ROOM], made[ROOM];
	size_t len = load(DIR "diff/state", data), place[16], sections = 0;
	unsigned refused = 0, taken = 0;

	(void)state;
	for (size_t at = 8; at < len; at += HEADER_LEN + mf_align_up(word(data + at + 12), 8))
		if (word(data + at) != STATE_TAG('E', 'N', 'D', ' '))
			place[sections++] = at;
	for (unsigned i = 0; i < MUTATIONS; i++) {
		const uint8_t *section = data + place[(size_t)rand() % sections];
		size_t size = word(section + 12);
		struct state_out out;
		struct state_in in;
		uint8_t *exact;
		int64_t total;
		int r;

		memcpy(payload, section + HEADER_LEN, size);
		size = mutate(payload, size);
		state_out_init(&out, made, sizeof(made));
		state_begin(&out, word(section), 0, 1);
		state_put_bytes(&out, payload, size);
		state_end(&out);
		total = state_out_finish(&out);
		assert_true(total > 0);
		exact = malloc((size_t)total); /* ASan sees a read beyond it */
		memcpy(exact, made, (size_t)total);
		assert_int_equal(state_in_init(&in, exact, (size_t)total, &err), 0);
		r = read_section(&in, word(section));
		refused += r < 0;
		taken += r == 0;
		free(exact);
	}
	assert_true(refused > MUTATIONS / 100 && taken > MUTATIONS / 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_earlier_states),
		cmocka_unit_test(test_mutations),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
