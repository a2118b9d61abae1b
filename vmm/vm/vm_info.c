/*
 * What a VM tells of itself while it runs, for `mayfly inspect` and `mayfly stats`: an object of JSON, and the configuration in
 * a memfd that was written before the filter of the main thread. The object has no text of the guest.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "virtio/device.h"
#include "virtio/mmio.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/core/loop.h"
#include "vmm/vm/timeline.h"
#include "vmm/vm/vm.h"

int vm_info_prepare(struct vm *vm, struct err *e)
{
	FILE *file;
	int fd, r;

	vm->config_fd = -1;
	if (!vm->config->control)
		return 0;
	fd = memfd_create("config", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	file = fd < 0 ? NULL : fdopen(fd, "w+");
	if (!file) {
		r = err_sys(e, "keep the configuration");
		if (fd >= 0)
			close(fd);
		return r;
	}
	r = config_print(vm->config, file, e);
	if (r == 0)
		vm->config_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	fclose(file);
	if (r == 0 && (vm->config_fd < 0 ||
		       fcntl(vm->config_fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0))
		r = err_sys(e, "keep the configuration");
	return r;
}

/* Adds a device; its id is of letters, digits, '-', '_' and '.' (config_check_id). */
static size_t put_device(const struct vm *vm, unsigned i, char *text, size_t size)
{
	const struct virtio_dev *dev = vm->dev[i];
	uint64_t n[4];

	for (unsigned j = 0; j < 4; j++) {
		const struct dev_counts *c = &dev->counts[j / 2];

		n[j] = atomic_load_explicit(j % 2 ? &c->bytes : &c->requests, memory_order_relaxed);
	}
	return (size_t)
		snprintf(text, size,
			 "%s{\"id\": \"%s\", \"kind\": \"%s\", \"state\": \"%s\", \"to_guest_requests\": %" PRIu64
			 ", \"to_guest_bytes\": %" PRIu64 ", \"from_guest_requests\": %" PRIu64
			 ", \"from_guest_bytes\": %" PRIu64 "}",
			 i ? ", " : "", dev->id, dev->ops->name, mmio_state_name(vm->transport[i]), n[DEV_TO_GUEST * 2],
			 n[DEV_TO_GUEST * 2 + 1], n[DEV_FROM_GUEST * 2], n[DEV_FROM_GUEST * 2 + 1]);
}

int vm_info(void *ctx, char *text, size_t size)
{
	const struct vm *vm = ctx;
	char steps[2048];
	size_t len;

	steps[timeline_text(vm->timeline, steps, sizeof(steps))] = '\0';
	len = (size_t)snprintf(text, size,
			       "{\"version\": \"%s\", \"io_engine\": \"%s\", \"steps_ms\": {%s}, \"devices\": [",
			       MF_VERSION, vm->engine == LOOP_ENGINE_SYNC ? "sync" : "ring", steps);
	for (unsigned i = 0; i < vm->num_devs && len < size; i++)
		len += put_device(vm, i, text + len, size - len);
	if (len + sizeof("]}") > size)
		len = 0; /* it cannot be: the devices are few */
	snprintf(text + len, size - len, len ? "]}" : "{}");
	return vm->config_fd;
}
