/*
 * The shape of a VM that runs a command: all of its configuration and of the host that the guest's
 * kernel has met when init starts. Two VMs of the same shape can be restored from the same template.
 *
 * It is a text with a line for each setting and each file. Of a file (kernel, initrd, mayfly itself) it
 * has what stat(2) says, and nothing of its contents. What reaches the guest by init's lists is not part
 * of it: root, volumes, network addresses, names, environment and command.
 */
#ifndef MF_TEMPLATE_SHAPE_H
#define MF_TEMPLATE_SHAPE_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/helper/image_cache.h"

struct config;
struct err;
struct stat;

struct shape {
	char *text;
	size_t len;
	char name[IMAGE_KEY_TEXT_MAX]; /* of the template, in the cache */
};

/* Why no VM of this configuration can be restored from a template; NULL: it can. */
const char *shape_unfit(const struct config *c);

/* Returns 0, or -errno with e set: a file is missing. shape_done accepts a zeroed one. */
int shape_of(struct shape *ret, const struct config *c, struct err *e);
void shape_done(struct shape *s);

/*
 * The whole text of the file `shape` of a template: the shape, and the identities of its `state` and `memory`.
 * Returns it, which the caller frees, or NULL: out of memory.
 */
char *shape_file_text(const struct shape *s, const struct stat *state, const struct stat *memory, size_t *ret_len);

#endif
