/* From an interface in the configuration to its device. */
#ifndef MF_VM_NET_BUILD_H
#define MF_VM_NET_BUILD_H

struct config_net;
struct err;
struct loop;
struct mem;
struct virtio_dev;

/*
 * Makes the device of n; passt_fd is the socket of its passt, if it has one, and is taken over. Returns 0 or -errno with
 * e set. Before the loop runs.
 */
int net_build(struct virtio_dev **ret, const struct config_net *n, int passt_fd, struct loop *loop,
	      const struct mem *mem, struct err *e);

#endif
