/* Scattered buffers; see iov.h. */
#include "virtio/iov.h"

#include <string.h>

#include "vmm/base/util.h"

/* Between the buffers and host memory: to is NULL, or from is. */
static uint64_t iov_copy(const struct iovec *iov, unsigned num, uint64_t skip, uint8_t *to, const uint8_t *from,
			 uint64_t len)
{
	uint64_t done = 0;

	for (unsigned i = 0; i < num && done < len; i++) {
		uint8_t *guest = iov[i].iov_base;
		uint64_t n;

		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		n = MF_MIN(iov[i].iov_len - skip, len - done);
		if (to)
			memcpy(to + done, guest + skip, n);
		else
			memcpy(guest + skip, from + done, n);
		done += n;
		skip = 0;
	}
	return done;
}

uint64_t iov_put(const struct iovec *iov, unsigned num, uint64_t skip, const void *from, uint64_t len)
{
	return iov_copy(iov, num, skip, NULL, from, len);
}

uint64_t iov_get(const struct iovec *iov, unsigned num, uint64_t skip, void *to, uint64_t len)
{
	return iov_copy(iov, num, skip, to, NULL, len);
}

uint64_t iov_len(const struct iovec *iov, unsigned num)
{
	uint64_t len = 0;

	for (unsigned i = 0; i < num; i++)
		len += iov[i].iov_len;
	return len;
}

unsigned iov_slice(struct iovec *to, const struct iovec *iov, unsigned num, uint64_t skip, uint64_t len)
{
	unsigned used = 0;

	for (unsigned i = 0; i < num && len > 0; i++) {
		uint64_t n;

		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		n = MF_MIN(iov[i].iov_len - skip, len);
		to[used++] = (struct iovec){ .iov_base = (char *)iov[i].iov_base + skip, .iov_len = n };
		len -= n;
		skip = 0;
	}
	return used;
}
