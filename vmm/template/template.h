/*
 * `mayfly run` from a template: a snapshot of a VM of the same shape (shape.h), whose kernel has booted and
 * whose init waits for its lists.
 *
 * Templates are in the cache of images, SOURCE-STATE.template: a directory of mode 0700 with
 *
 *	state, memory	as in every snapshot (docs/snapshot-format.md)
 *	shape		the shape, and what stat(2) says of the other two; without them: the guest of this shape
 *			does not get to the point where it would wait
 *
 * So a template whose files were changed after it was complete is not used. Those of another user are not
 * used either, whatever their mode.
 *
 * A run that finds none leaves a process that makes one (maker.h).
 */
#ifndef MF_TEMPLATE_TEMPLATE_H
#define MF_TEMPLATE_TEMPLATE_H

#include <sys/types.h>

#include "vmm/helper/image_cache.h"
#include "vmm/template/shape.h"

struct config;
struct err;

/*
 * Decides how the VM of c starts, which is checked: makes it a clone of a template, if c->boot allows it
 * and there is one, or starts the maker. Sets c->template. Before there is another thread, a jail or a control
 * group. Returns 0; or, with CONFIG_BOOT_TEMPLATE, -errno with e set: there is none, or it cannot be used.
 */
int template_begin(struct config *c, struct err *e);

enum template_found { TEMPLATE_COMPLETE, TEMPLATE_MISSING, TEMPLATE_STALE, TEMPLATE_FAILS, TEMPLATE_FOREIGN };

/* For the maker. Looks for the template of that shape. inode (or NULL) gets those of `state` and `memory` of a complete one. */
enum template_found template_look(const struct image_cache *cache, const struct shape *s, ino_t inode[2]);

#endif
