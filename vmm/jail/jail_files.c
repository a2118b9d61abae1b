/*
 * The files that a VM opens by name; see jail_files.h. Each is opened with the VM's own flags and
 * error messages. Only the jailed process reads their contents, which may be hostile.
 */
#include "vmm/jail/jail_files.h"

#include <fcntl.h>
#include <sys/socket.h>

#include "virtio/image.h"
#include "virtio/net_backend.h"
#include "virtio/overlay.h"
#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/fdstore.h"
#include "vmm/config/config.h"
#include "vmm/core/kvm.h"
#include "vmm/guest/control.h"

static int provide_file(const char *path, struct err *e)
{
	uint64_t size;
	int fd = fdio_open_file(path, O_RDONLY, false, &size, e);

	return fd < 0 ? fd : fdstore_provide(path, O_RDONLY, fd, e);
}

static int provide_drive(const struct config_drive *d, struct err *e)
{
	int fd;

	if (d->awaited)
		return 0; /* it comes with the claim */
	/* image_pack_drives has stored the image that it has made, and vm_restore_check its copy of a snapshot's. */
	if (!config_drive_is_made(d) && !d->image &&
	    image_provide(d->path, d->read_only || d->overlay, d->direct, e) < 0)
		return e->code;
	if (d->base && provide_file(d->base, e) < 0)
		return e->code;
	if (!d->overlay || !d->overlay_dir)
		return 0;
	fd = overlay_open(d->overlay_dir, e);
	return fd < 0 ? fd : fdstore_provide(d->overlay_dir, OVERLAY_OPEN, fd, e);
}

static int provide_kvm(struct err *e)
{
	int fd = kvm_open(e);

	return fd < 0 ? fd : fdstore_provide(KVM_PATH, O_RDWR, fd, e);
}

static int provide_sockets(const struct config *c, struct jail_names *names, struct err *e)
{
	if (c->vsock.path && (unix_socket_listen(&names->vsock, c->vsock.path, SOCK_STREAM, e) < 0 ||
			      unix_socket_provide(&names->vsock, e) < 0))
		return err_wrap(e, "vsock '%s'", c->vsock.path);
	if (c->control &&
	    (control_listen(&names->control, c->control, e) < 0 || unix_socket_provide(&names->control, e) < 0))
		return err_wrap(e, "control '%s'", c->control);
	return 0;
}

int jail_files_provide(const struct config *c, struct jail_names *ret, struct err *e)
{
	*ret = (struct jail_names){ .vsock = UNIXNAME_INIT, .control = UNIXNAME_INIT };
	if (!c->restore_state && provide_file(c->kernel, e) < 0)
		return err_wrap(e, "kernel '%s'", c->kernel);
	if (!c->restore_state && c->initrd && provide_file(c->initrd, e) < 0)
		return err_wrap(e, "initrd '%s'", c->initrd);
	if (provide_kvm(e) < 0)
		return e->code;
	for (unsigned i = 0; i < c->num_drives; i++)
		if (provide_drive(&c->drive[i], e) < 0)
			return err_wrap(e, "drive '%s'", c->drive[i].id);
	for (unsigned i = 0; i < c->num_nets; i++)
		if (c->net[i].kind == CONFIG_NET_TAP && !c->net[i].awaited && net_tap_provide(c->net[i].tap, e) < 0)
			return err_wrap(e, "net '%s'", c->net[i].id);
	return provide_sockets(c, ret, e);
}
