/*
 * What is kept of a container between the calls of an engine: ROOT/ID/state.json, of this user alone.
 *
 * The file is an object, written whole: "bundle" and "annotations" as an engine gets them;
 * "pid" of the monitor and "ticks", when that started (so that a PID that another process has got is not taken for it); "name"
 * of its VM, "cgroup", a directory, or that it may be one, "scope", that this is a scope of systemd, and "hooks". It is there before anything else is made, without a
 * PID; "ready" says that create has come to its end, "started" that the process was. Whether the container lives is never in it.
 *
 * An engine may call any operations at once. A writer of the state locks the directory (flock), and a deletion has it
 * locked from reading the state to the end. So `create` cannot finish a container that a deletion has not seen: its next
 * write fails, and it ends what it has made.
 */
#ifndef MF_OCI_CONTAINER_H
#define MF_OCI_CONTAINER_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

struct err;

#define CONTAINER_ID_MAX 128 /* bytes */

struct container {
	char id[CONTAINER_ID_MAX + 1];
	int root; /* the directory of all, owned; or -1 */
	int dir;  /* its own, owned; or -1 */
	json_t *json;
};

#define CONTAINER_INIT ((struct container){ .root = -1, .dir = -1 })

/* Whether an id can be one: it becomes a file's name. Returns 0 or -EINVAL with e set. */
int container_check_id(const char *id, struct err *e);

/* The directory of containers if the engine names none, which the caller frees; NULL: no memory. */
char *container_default_root(void);

/*
 * Opens the directory of all containers, which is made if it is missing, with mode 0700, its parents too. Returns the
 * descriptor, or -errno with e set.
 */
int container_open_root(const char *path, struct err *e);

/*
 * Makes the directory of a new container: -EEXIST if there is one of that id. Or opens one that is there, and reads its state:
 * -ENOENT if there is none. Both return 0 or -errno with e set; container_done accepts either.
 */
int container_make(struct container *c, const char *root, const char *id, struct err *e);
int container_open(struct container *c, const char *root, const char *id, struct err *e);

/*
 * The same as container_open, for a caller that will remove it: until container_remove or container_done, no other process
 * writes or removes it. -EBUSY if another process has it locked for 20 seconds.
 */
int container_open_locked(struct container *c, const char *root, const char *id, struct err *e);

/*
 * Writes c->json, all or nothing. Returns 0, or -errno with e set: -ENOENT if another process has removed it, even if there is
 * a new one of that id.
 */
int container_write(const struct container *c, struct err *e);

/* Removes it, and unlocks it. Returns as container_write: of several that remove it, one gets 0. */
int container_remove(const struct container *c, struct err *e);
void container_done(struct container *c);

pid_t container_pid(const struct container *c);
const char *container_text(const struct container *c, const char *key); /* or "" */
bool container_is(const struct container *c, const char *key);

#endif
