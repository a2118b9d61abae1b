/* Blocks of a tar archive; see tar_format.h. */
#include "vmm/helper/tar_format.h"

#include <string.h>

/* Octal, or binary if the first bit is set. Returns false for what is neither, and for what is negative. */
bool tar_number(const char *field, size_t size, uint64_t *ret)
{
	bool binary = field[0] & 0x80;
	uint64_t n = binary ? field[0] & 0x7f : 0;
	size_t i = binary;

	for (; i < size && field[i] != '\0' && field[i] != ' ' && !binary; i++) {
		if (field[i] < '0' || field[i] > '7' || n >> 61)
			return false;
		n = n << 3 | (uint64_t)(field[i] - '0');
	}
	for (; i < size && binary; i++) {
		if (n >> 56)
			return false;
		n = n << 8 | (uint8_t)field[i];
	}
	*ret = n;
	return true;
}

/* The same, but negative if the first byte has all bits set. */
bool tar_signed(const char *field, size_t size, int64_t *ret)
{
	bool negative = (uint8_t)field[0] == 0xff;
	uint64_t n = negative ? UINT64_MAX : 0;

	for (size_t i = 1; i < size && negative; i++) {
		if (n >> 55 != UINT64_MAX >> 55)
			return false;
		n = n << 8 | (uint8_t)field[i];
	}
	if (!negative && (!tar_number(field, size, &n) || n > INT64_MAX))
		return false;
	*ret = (int64_t)n;
	return true;
}

bool tar_has_sum(const struct tar_header *h)
{
	uint64_t said, sum = 0;

	for (size_t i = 0; i < sizeof(*h); i++)
		sum += i - offsetof(struct tar_header, sum) < sizeof(h->sum) ? ' ' : ((const uint8_t *)h)[i];
	return tar_number(h->sum, sizeof(h->sum), &said) && said == sum;
}

bool tar_is_end(const struct tar_header *h)
{
	static const struct tar_header zero;

	return memcmp(h, &zero, sizeof(*h)) == 0;
}
