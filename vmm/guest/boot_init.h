/*
 * The archive that is added to the guest's initramfs: mayfly's init and its instructions.
 */
#ifndef MF_GUEST_BOOT_INIT_H
#define MF_GUEST_BOOT_INIT_H

#include <stddef.h>
#include <stdint.h>

struct config;
struct err;

/*
 * For a configuration with a command. Returns 0 and an archive, which the caller frees,
 * or -errno with e set.
 */
int boot_init_archive(uint8_t **ret, size_t *ret_len, const struct config *c, struct err *e);

#endif
