/* Checks what a guest wants to send. */
#ifndef MF_VIRTIO_NET_CHECK_H
#define MF_VIRTIO_NET_CHECK_H

#include <stdbool.h>
#include <stdint.h>

struct virtio_net_hdr_v1;
struct virtq_chain;

/*
 * Whether chain holds a header and a frame that may be sent under the negotiated features. *ret
 * is then a copy of the header, with nothing in it that was not checked.
 */
bool net_check_tx(struct virtio_net_hdr_v1 *ret, const struct virtq_chain *chain, uint64_t features);

#endif
