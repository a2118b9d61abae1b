/* An interpreter of the part of classic BPF that seccomp filters are made of here. */
#ifndef MF_TESTS_UNIT_BPF_H
#define MF_TESTS_UNIT_BPF_H

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* What a filter says of a call. The instructions are those that the generator and libseccomp make. */
static inline uint32_t interpret(const struct sock_filter *code, unsigned len, const struct seccomp_data *data)
{
	uint32_t acc = 0;

	for (unsigned pc = 0; pc < len; pc++) {
		const struct sock_filter *in = &code[pc];

		switch (in->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			assert_true(in->k + sizeof(acc) <= sizeof(*data));
			memcpy(&acc, (const char *)data + in->k, sizeof(acc));
			break;
		case BPF_ALU | BPF_AND | BPF_K:
			acc &= in->k;
			break;
		case BPF_JMP | BPF_JA:
			pc += in->k;
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
			pc += acc == in->k ? in->jt : in->jf;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			pc += acc >= in->k ? in->jt : in->jf;
			break;
		case BPF_JMP | BPF_JGT | BPF_K:
			pc += acc > in->k ? in->jt : in->jf;
			break;
		case BPF_RET | BPF_K:
			return in->k;
		default:
			fail_msg("instruction 0x%x", in->code);
		}
	}
	fail_msg("the filter has no end");
	return 0;
}

#endif
