/* A member of a pool whose guest runs while it waits for its client; see vmm/guest/guest_claim.c. */
#include <string.h>
#include <sys/random.h>

#include "virtio/vsock.h"
#include "vmm/base/err.h"
#include "vmm/base/unix_socket.h"
#include "vmm/guest/guest_client.h"
#include "vmm/jail/parent.h"
#include "vmm/platform/ioapic.h"
#include "vmm/vm/boot.h"
#include "vmm/vm/vm.h"

/* The filter of the main thread does not allow it when the client has come. */
int vm_claim_prepare(struct vm *vm, struct err *e)
{
	if (!vm->config->pool_runs)
		return 0;
	if (getrandom(vm->claim_id, sizeof(vm->claim_id), GRND_NONBLOCK) != (ssize_t)sizeof(vm->claim_id))
		return err_sys(e, "getrandom");
	return 0;
}

/* On the thread that waits for the client. */
static int vm_on_configured(void *ctx, struct err *e)
{
	return vm_info_prepare(ctx, e);
}

int vm_claim_await(struct vm *vm, struct err *e)
{
	struct jail_await await = { .confine = &vm->confine, .configured = vm_on_configured, .ctx = vm };

	if (!vm->config->pool_runs)
		return 0;
	guest_client_claim_fds(vm->guest, &await.tty_from, &await.tty_to);
	await.vsock_fd = vsock_listen_fd(vm->vsock);
	return vm->parent->member->await(vm->parent->member, &await, e);
}

int vm_claim_fd(const struct vm *vm)
{
	return vm->config->pool_runs ? vm->parent->member->taken_fd : -1;
}

int vm_claim_take(struct vm *vm)
{
	struct jail_member *m = vm->parent->member;
	struct unix_socket control = UNIXNAME_INIT;
	struct err e;

	m->take(m, &control);
	if (vm->config->vsock.path)
		vsock_listen(vm->vsock, vm->config->vsock.path);
	vm_stop_begin(vm);
	vm_on_foreground(vm);
	memcpy(mem_at(&vm->mem, LAYOUT_VM_ID, LAYOUT_VM_ID_SIZE), vm->claim_id, sizeof(vm->claim_id));
	ioapic_ask(vm->ioapic, BOOT_GENERATION_LINE);
	if (guest_client_claim(vm->guest, vm->config, &control, &e) < 0)
		vm_end(&vm->end, VM_END_INIT, "%s", e.text);
	return m->client_fd;
}
