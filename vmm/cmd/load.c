/* /snapshot/load of Firecracker's API; see load.h. */
#include "vmm/cmd/load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/api/api.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/snapshot/chain.h"
#include "vmm/snapshot/dir.h"
#include "vmm/vm/vm_state.h"

/* Of a directory that `mayfly snapshot` wrote. */
static int load_own(struct api *api, struct config *c, const char *dir, struct err *e)
{
	MF_FREE char *path = NULL, *text = NULL;
	size_t len;

	if (asprintf(&path, "%s/" SNAPSHOT_CONFIG, dir) < 0) {
		path = NULL;
		return err_set(e, -ENOMEM, "out of memory");
	}
	if (access(path, F_OK) < 0)
		return err_set(e, -ENOTSUP,
			       "state '%s' has no configuration, and there is no '" SNAPSHOT_CONFIG "' beside it",
			       c->restore_state);
	/* A diff of `mayfly snapshot` is not merged by anybody: its parents are opened with it. */
	if (!c->restore_served) {
		chain_free(c->restore_chain);
		c->restore_chain = NULL;
		c->restore_merged = false;
	}
	return config_load_text(&text, &len, path, e) < 0 ? e->code : api_load_config(api, c, text, path, e);
}

int load_config(struct api *api, struct config *c, char **ret_dir, struct err *e)
{
	MF_FREE char *text = NULL;
	char *dir;

	if (api_build_load(api, c, e) < 0 || vm_read_config(c, &text, e) < 0)
		return e->code;
	if (text)
		return api_load_config(api, c, text, c->restore_state, e);
	dir = strdup(c->restore_chain->layer[0].dir);
	if (!dir)
		return err_set(e, -ENOMEM, "out of memory");
	*ret_dir = dir;
	return load_own(api, c, dir, e);
}
