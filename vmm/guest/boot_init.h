/* The archive with mayfly's init and what it is to do, which is added to the guest's initramfs. */
#ifndef MF_GUEST_BOOT_INIT_H
#define MF_GUEST_BOOT_INIT_H

#include <stddef.h>
#include <stdint.h>

struct config;
struct err;

/* For a configuration with a command. Returns 0 and an archive to be freed by the caller, or -errno with e set. */
int boot_init_archive(uint8_t **ret, size_t *ret_len, const struct config *c, struct err *e);

#endif
