/* From an interface in the configuration to its device. */
#ifndef MF_VM_NET_BUILD_H
#define MF_VM_NET_BUILD_H

struct config_net;
struct err;
struct loop;
struct mem;
struct virtio_dev;

/*
 * Makes the device of n. Owns passt_fd, the socket of its passt, from here on; -1 if it has none. Returns 0 or -errno with
 * e set. Before the loop runs.
 */
int net_build(struct virtio_dev **ret, const struct config_net *n, int passt_fd, struct loop *loop,
	      const struct mem *mem, struct err *e);

#endif
