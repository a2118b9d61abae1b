/* Scattered buffers: parts of them, and copies into and out of them. */
#ifndef MF_VIRTIO_IOV_H
#define MF_VIRTIO_IOV_H

#include <stdint.h>
#include <sys/uio.h>

/* Copies len bytes from `from` into the buffers, skip bytes in. Returns the bytes copied: fewer where the buffers end. */
uint64_t iov_put(const struct iovec *iov, unsigned num, uint64_t skip, const void *from, uint64_t len);

/* The same out of the buffers. */
uint64_t iov_get(const struct iovec *iov, unsigned num, uint64_t skip, void *to, uint64_t len);

/* The bytes of all buffers. */
uint64_t iov_len(const struct iovec *iov, unsigned num);

/*
 * Describes the buffers' bytes [skip, skip + len), or what there is of them, in `to`, which has room for num entries.
 * Returns the entries used.
 */
unsigned iov_slice(struct iovec *to, const struct iovec *iov, unsigned num, uint64_t skip, uint64_t len);

#endif
