/* Fuzzes the jailer's command line: the input is its arguments, each ended by a NUL. Any gives parameters or a message. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/cmd/jailer.h"

#define ARGS_MAX 200

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct jailer_options o = { .version = false };
	char *argv[ARGS_MAX + 1] = { strdup("jailer") };
	struct err e = { 0 };
	int argc = 1, r;

	while (size > 0 && argc < ARGS_MAX) {
		size_t len = strnlen((const char *)data, size);

		argv[argc] = strndup((const char *)data, len);
		/* It would be printed each time. */
		if (!strcmp(argv[argc], "--help"))
			argv[argc][2] = 'x';
		argc++;
		len += len < size;
		data += len;
		size -= len;
	}
	fcjailer_init(&o.params);
	r = jailer_parse(&o, argc, argv, &e);
	if (r == 0 && !o.version) {
		const struct fcjailer_params *p = &o.params;

		assert(strlen(p->id) <= FCJAILER_ID_MAX && !strpbrk(p->id, "./"));
		assert(p->exec_file && p->uid >= 0 && p->uid < UINT32_MAX && p->gid >= 0 && p->gid < UINT32_MAX);
		assert(p->num_extra < ARGS_MAX && (!p->parent || (p->parent[0] != '/' && !strstr(p->parent, "//"))));
		for (unsigned i = 0; i < p->num_cgroups; i++)
			assert(!strchr(p->cgroup[i].file, '/') && strchr(p->cgroup[i].file, '.'));
	} else if (r != 0) {
		assert(r < 0 && e.text[0]);
	}
	fcjailer_done(&o.params);
	while (argc)
		free(argv[--argc]);
	return 0;
}
