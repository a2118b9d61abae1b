/* Time marks as a file; see timeline.h. perf/timeline draws them. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/fdio.h"
#include "vmm/vm/timeline.h"

int timeline_write(struct timeline *t, int fd)
{
	json_t *steps = json_array(), *root;
	char *text = NULL;
	int r = -ENOMEM;

	for (unsigned i = 0; i < TIMELINE_NUM_STEPS; i++) {
		if (!atomic_load_explicit(&t->mark[i].set, memory_order_acquire))
			continue;
		/* A failure leaves a NULL, which makes json_pack fail below. */
		(void)json_array_append_new(steps, json_pack("{s:s,s:I,s:I}", "step",
							     timeline_step_name((enum timeline_step)i), "at_ns",
							     (json_int_t)t->mark[i].ns, "instructions",
							     (json_int_t)t->mark[i].instructions));
	}
	root = json_pack("{s:i,s:o}", "version", 1, "steps", steps);
	if (root)
		text = json_dumps(root, JSON_INDENT(1));
	if (text)
		r = fdio_write_all(fd, text, strlen(text));
	if (r == 0)
		r = fdio_write_all(fd, "\n", 1);
	free(text);
	json_decref(root);
	return r;
}
