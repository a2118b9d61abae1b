/* Devices that change while the guest runs, for Firecracker's API. The VM has an attendant. Main thread. */
#ifndef MF_VM_VM_CHANGE_H
#define MF_VM_VM_CHANGE_H

#include "virtio/net.h"

struct err;
struct exec_request;
struct vm;

/*
 * The drive of that id gets the image at path (blk_update), or if path is NULL, keeps its own; and new
 * limits: NULL leaves those of that bucket, zeroed ones are none. Returns 0 or -errno with e set: -ENOENT if
 * there is no such drive.
 */
int vm_change_drive(struct vm *vm, const char *id, const char *path, const struct ratelimit_params *bandwidth,
		    const struct ratelimit_params *ops, struct err *e);

/* The same for the limits of one direction of a network interface. */
int vm_change_net(struct vm *vm, const char *id, enum net_queue queue, const struct ratelimit_params *bytes,
		  const struct ratelimit_params *ops, struct err *e);

/*
 * Types Ctrl+Alt+Del on the guest's keyboard. Returns 0 or -errno with e set: -ENODEV if it has none,
 * -ENOBUFS if the guest has not read what was typed before.
 */
int vm_type(struct vm *vm, struct err *e);

/* guest_client_exec, whose ops->ran is the attendant's ran. */
int vm_exec(struct vm *vm, int fd, const struct exec_request *request, struct err *e);

#endif
