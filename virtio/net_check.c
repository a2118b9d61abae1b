/*
 * The header before a frame that the guest sends (virtio 1.2 §5.1.6.2). It says where the host's
 * kernel writes a checksum, and how it cuts the frame into packets. So it is copied once, the copy
 * is checked, and the kernel gets the copy.
 */
#include "virtio/net_check.h"

#include <endian.h>
#include <linux/virtio_net.h>

#include "virtio/net_backend.h"
#include "virtio/virtq.h"

#define CHECKSUM_LEN 2U

/* The feature that allows a kind of segmentation; -1: none does. */
static int gso_feature(uint8_t kind)
{
	switch (kind) {
	case VIRTIO_NET_HDR_GSO_TCPV4:
		return VIRTIO_NET_F_HOST_TSO4;
	case VIRTIO_NET_HDR_GSO_TCPV6:
		return VIRTIO_NET_F_HOST_TSO6;
	case NET_GSO_UDP_L4:
		return NET_F_HOST_USO;
	default:
		return -1;
	}
}

static bool gso_allowed(const struct virtio_net_hdr_v1 *h, uint32_t frame_len, uint64_t features)
{
	uint8_t kind = h->gso_type & ~VIRTIO_NET_HDR_GSO_ECN;
	int feature = gso_feature(kind);

	if (feature < 0 || !(features >> feature & 1))
		return false;
	if (h->gso_type & VIRTIO_NET_HDR_GSO_ECN &&
	    (kind == NET_GSO_UDP_L4 || !(features >> VIRTIO_NET_F_HOST_ECN & 1)))
		return false;
	/* §5.1.6.2.1: with a checksum, a size of pieces, and headers inside of the frame. */
	return h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM && le16toh(h->gso_size) > 0 && le16toh(h->hdr_len) <= frame_len;
}

bool net_check_tx(struct virtio_net_hdr_v1 *ret, const struct virtq_chain *chain, uint64_t features)
{
	struct virtio_net_hdr_v1 h, checked = { .gso_type = VIRTIO_NET_HDR_GSO_NONE };
	uint32_t frame_len;

	if (chain->out_len < NET_HEADER_LEN + NET_FRAME_MIN || chain->out_len > NET_HEADER_LEN + NET_FRAME_MAX)
		return false;
	frame_len = (uint32_t)(chain->out_len - NET_HEADER_LEN);
	(void)virtq_copy_out(chain, 0, &h, sizeof(h)); /* it is that long */
	/* Other flags and num_buffers have a meaning only in the other direction. */
	if (h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
		uint32_t end = (uint32_t)le16toh(h.csum_start) + le16toh(h.csum_offset) + CHECKSUM_LEN;

		if (!(features >> VIRTIO_NET_F_CSUM & 1) || end > frame_len)
			return false;
		checked.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		checked.csum_start = h.csum_start;
		checked.csum_offset = h.csum_offset;
	}
	if (h.gso_type != VIRTIO_NET_HDR_GSO_NONE) {
		if (!gso_allowed(&h, frame_len, features))
			return false;
		checked.gso_type = h.gso_type;
		checked.gso_size = h.gso_size;
		checked.hdr_len = h.hdr_len;
	}
	*ret = checked;
	return true;
}
