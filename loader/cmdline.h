/* Composes the kernel command line from the VM's configuration. */
#ifndef MF_LOADER_CMDLINE_H
#define MF_LOADER_CMDLINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct loader_device;

struct cmdline_in {
	unsigned cpus;
	const char *init; /* or NULL: rdinit=, a program in the initramfs; also added to a text that replaces ours */
	bool has_root;	  /* root=/dev/vda: there is a drive, and no initrd that finds its own root */
	bool root_read_only;
	const struct loader_device *devices; /* virtio-mmio */
	unsigned num_devices;
	const char *append;  /* or NULL: added at the end */
	const char *replace; /* or NULL: the user's text instead of all of ours except the devices */
};

/*
 * Writes the line and its NUL to buf. A buffer of LAYOUT_CMDLINE_SIZE (loader/layout.h)
 * holds the longest line that a kernel accepts. Returns 0, or -E2BIG with e set to a
 * sentence with the length and the limit.
 */
int cmdline_compose(char *buf, size_t size, const struct cmdline_in *in, struct err *e);

#endif
