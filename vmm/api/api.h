/*
 * Firecracker's API: what a client configures, starts and asks for. The requests come from
 * http.h; everything here is the main thread's.
 *
 * Life: api_new -> api_await_start -> (the VM is built and runs: api_attendant) -> api_free.
 */
#ifndef MF_API_API_H
#define MF_API_API_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/config/config.h"

struct api;
struct api_snapshot_load;
struct err;
struct exec_request;
struct exec_result;
struct http_fds;
struct vm;

#define API_VERSION "1.17.0" /* of Firecracker's API */
#define API_ID_DEFAULT "anonymous-instance"
#define API_SOCKET_DEFAULT "/run/firecracker.socket"

struct api_params {
	const char *socket; /* path; NULL: no server, the configuration is all */
	const char *id;
	size_t body_max;
	bool boot_timer;
	size_t mmds_max; /* bytes of metadata */
};

/* Returns 0 or -errno with e set; api_free accepts either. params are kept. */
int api_new(struct api **ret, const struct api_params *params, struct err *e);

/* http_start, if there is a server. */
int api_start(struct api *a, int (*guard)(void *ctx), void *ctx, struct err *e);
struct http_fds api_fds(const struct api *a);

/*
 * Options of the command line. api_load_file configures the VM from a file, and has it started: by
 * api_await_start, with nobody to answer. Return 0 or -errno with e set.
 */
int api_load_file(struct api *a, const char *path, struct err *e);
int api_set_logger(struct api *a, const char *path, const char *level, struct err *e); /* either may be NULL */
void api_show_in_log(struct api *a, bool level, bool origin);
bool api_is_level(const char *text);
int api_set_metrics(struct api *a, const char *path, struct err *e);

/* Puts metadata from a file of JSON. Returns 0 or -errno with e set. */
int api_load_metadata(struct api *a, const char *path, struct err *e);

enum api_next { API_START, API_SIGNAL };

/*
 * Serves requests until the VM is to be started, or signal_fd is readable. After
 * API_START, either api_started or api_failed has to follow.
 */
enum api_next api_await_start(struct api *a, int signal_fd);

/*
 * The request to load a snapshot, if that is how the VM is started; or NULL. A load that fails ends the
 * process. api_build_load: names its files. api_load_config: takes the configuration in text, with what the request
 * overrides: as the API's objects, or, if `mayfly snapshot` wrote it, into config. name is for messages. Returns 0 or -errno
 * with e set.
 */
const struct api_snapshot_load *api_load(const struct api *a);
int api_build_load(const struct api *a, struct config *config, struct err *e);
int api_load_config(struct api *a, struct config *config, const char *text, const char *name, struct err *e);

/*
 * The reverse, for `mayfly restore`, without a server: config gets what text, of a state that the API wrote, has. Returns 0 or
 * -errno with e set.
 */
int api_restore_config(struct config *config, const char *text, struct err *e);

/*
 * The VM's configuration, for config_check. The strings are config's own. Returns 0 or
 * -errno with e set.
 */
int api_build_config(const struct api *a, struct config *config, struct err *e);

/*
 * Gives the VM what listens already (fdstore.h): the vsock's socket. Before the VM is built.
 * Returns 0 or -errno with e set.
 */
int api_lend(struct api *a, struct err *e);

/*
 * What requests change in a VM that runs. All return 0 or -errno with e set. The limits of a bucket
 * stay as they are if they are NULL, and end if they are zeroed.
 */
struct api_vm_ops {
	int (*set_paused)(struct vm *vm, bool paused, struct err *e); /* no error if it is so already */
	/* path NULL: the image stays. */
	int (*change_drive)(struct vm *vm, const char *id, const char *path, const struct ratelimit_params *bandwidth,
			    const struct ratelimit_params *ops, struct err *e);
	int (*change_net)(struct vm *vm, const char *id, enum net_queue queue, const struct ratelimit_params *bandwidth,
			  const struct ratelimit_params *ops, struct err *e);
	/* Of a paused VM, into two new files; config goes into the state. diff: vm_write.h. After 0, api_snapshot_done follows. */
	int (*snapshot)(struct vm *vm, const char *state, const char *memory, const char *config, bool diff,
			struct err *e);
	int (*type)(struct vm *vm, struct err *e); /* Ctrl+Alt+Del */
	/* Counters. Each returns false if there is no i. counts: requests and bytes to the guest, and from it. */
	bool (*device)(struct vm *vm, unsigned i, const char **ret_id, const char **ret_kind, uint64_t counts[4]);
	bool (*kvm)(struct vm *vm, unsigned i, const char **ret_name, uint64_t *ret); /* i 0: as they are now */
	unsigned (*latency)(struct vm *vm, unsigned i, uint64_t counts[33], double *ret_unit); /* vm_counts.h */
	bool (*steal)(struct vm *vm, unsigned i, uint64_t *ret_ns);
	bool (*phase)(struct vm *vm, unsigned i, const char **ret_name, uint64_t *ret_ns); /* of the start */
	struct json_t *(*timeline)(struct vm *vm); /* of the start; the caller's, or NULL: memory is short */
	/* Runs a command, or waits for the guest, for the client at fd, which it keeps. api_ran follows. */
	int (*exec)(struct vm *vm, int fd, const struct exec_request *request, struct err *e);
	struct vm *vm; /* theirs */
};

/* Those that the VM calls take the struct api * that it was given as a context. */

/* Answers the request that started the VM: it runs (vm is kept); or it could not be started, for that reason. */
void api_started(struct api *a, const struct api_vm_ops *vm);
void api_failed(void *api, const struct err *why);

/* The guest has ended: writes its last metrics, and forgets the VM. */
void api_ended(void *api);

/* While the VM runs: a descriptor that is readable when a request waits, and what serves it. */
int api_fd(const struct api *a);
void api_serve(void *api);

/* Answers the request for a snapshot: it is written (why NULL), or not, for that reason. */
void api_snapshot_done(void *api, const struct err *why);

/* Answers the client at fd, and closes it: its command is over, or the guest ready. */
void api_ran(void *api, int fd, const struct exec_result *result);

/* The same for the guest, which reads its metadata by vsock; or -1. After api_lend. */
int api_guest_fd(const struct api *a);
void api_serve_guest(void *api);

void api_free(struct api *a);

#endif
