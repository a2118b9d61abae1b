#include "vmm/vm/vm_change.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <string.h>

#include "virtio/blk.h"
#include "virtio/device.h"
#include "vmm/base/err.h"
#include "vmm/guest/guest_client.h"
#include "vmm/vm/vm.h"

static struct virtio_dev *find(struct vm *vm, unsigned device_id, const char *id, struct err *e)
{
	for (unsigned i = 0; i < vm->num_devs; i++)
		if (vm->dev[i]->ops->device_id == device_id && !strcmp(vm->dev[i]->id, id))
			return vm->dev[i];
	err_set(e, -ENOENT, "there is no %s '%s'", device_id == VIRTIO_ID_BLOCK ? "drive" : "interface", id);
	return NULL;
}

int vm_change_drive(struct vm *vm, const char *id, const char *path, const struct ratelimit_params *bandwidth,
		    const struct ratelimit_params *ops, struct err *e)
{
	struct virtio_dev *dev = find(vm, VIRTIO_ID_BLOCK, id, e);

	if (!dev || (path && blk_update(dev, path, e) < 0))
		return e->code;
	if (bandwidth || ops)
		blk_set_limits(dev, bandwidth, ops);
	return 0;
}

int vm_change_net(struct vm *vm, const char *id, enum net_queue queue, const struct ratelimit_params *bytes,
		  const struct ratelimit_params *ops, struct err *e)
{
	struct virtio_dev *dev = find(vm, VIRTIO_ID_NET, id, e);

	if (!dev)
		return e->code;
	if (bytes || ops)
		net_set_limit(dev, queue, bytes, ops);
	return 0;
}

int vm_type(struct vm *vm, struct err *e)
{
	int r = i8042_type(&vm->i8042);

	if (r == -ENOBUFS)
		return err_set(e, r, "i8042: the buffer is full, the guest does not read it");
	return r < 0 ? err_set(e, r, "i8042: the VM was restored from a snapshot without a keyboard") : 0;
}

int vm_exec(struct vm *vm, int fd, const struct exec_request *request, struct err *e)
{
	if (!vm->guest)
		return err_set(e, -ENOTSUP, "the guest has an init of its own, which takes no commands");
	if (request->command && vm->paused)
		return err_set(e, -EBUSY, "the VM is paused");
	return guest_client_exec(vm->guest, fd, request, e);
}
