/*
 * Hooks of a container: programs of the host that the engine wants run at points of its life (OCI runtime-spec 1.1,
 * "POSIX-platform Hooks"). A hook gets the container's state on its standard input, its own environment alone, and the bundle
 * as its working directory. It is killed when its timeout is over, and with the process that runs it.
 *
 * startContainer is refused: its program is in the container, and has to run before the process, which a guest does not do.
 */
#ifndef MF_OCI_HOOKS_H
#define MF_OCI_HOOKS_H

#include <jansson.h>

struct err;
struct json_at;

#define HOOKS_MAX 64	    /* of a kind */
#define HOOKS_TIMEOUT_S 300 /* without a timeout of its own */
#define HOOKS_TIMEOUT_MAX_S 3600

/*
 * Checks the member "hooks" of a document. Returns 0 and the object, which lives as long as the document, or NULL if there are
 * none; or -errno with e set.
 */
int hooks_read(const struct json_at *top, const json_t **ret, struct err *e);

/*
 * Runs the hooks of a kind ("createRuntime") in their order, until one fails. hooks may be NULL. netns: the file of a network
 * namespace for them, or -1. Returns 0, or -errno with e set: the hook's name, its status, and the first of what it has said.
 */
int hooks_run(const json_t *hooks, const char *kind, const json_t *state, int netns, struct err *e);

#endif
