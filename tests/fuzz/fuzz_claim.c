/* Fuzzes the texts of a claim: a number of words for each part, then the bytes. */
#include <assert.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/pool/claim.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pool_claim c;
	unsigned total = 0;
	struct err e;

	if (size < POOL_NUM_PARTS || size - POOL_NUM_PARTS > POOL_TEXT_MAX || pool_claim_init(&c) < 0)
		return 0;
	for (unsigned i = 0; i < POOL_NUM_PARTS; i++)
		c.num[i] = data[i] == 0xff ? UINT32_MAX : data[i] * (data[i] < 0x80 ? 1U : 64U);
	size -= POOL_NUM_PARTS;
	memcpy(c.text, data + POOL_NUM_PARTS, size);
	if (pool_claim_parse(&c, size, &e) == 0) {
		for (unsigned i = 0; i < POOL_NUM_PARTS; i++)
			total += c.num[i];
		assert(total <= POOL_WORDS_MAX && c.num[POOL_FROM] <= 1);
		for (unsigned i = 0; i < total; i++)
			assert(c.word[i] >= c.text && c.word[i] + strlen(c.word[i]) < c.text + size);
		(void)pool_claim_differs(&c, POOL_SHARED, pool_claim_part(&c, POOL_OPTIONS), c.num[POOL_OPTIONS]);
	}
	pool_claim_done(&c);
	return 0;
}
