/* Private to vmm/api: what has been configured, and the answers. */
#ifndef MF_API_STATE_H
#define MF_API_STATE_H

#include "vmm/api/api.h"
#include "vmm/api/http.h"
#include "vmm/api/mmds.h"
#include "vmm/api/objects.h"
#include "vmm/base/unix_socket.h"
#include "vmm/config/config.h"
#include "vmm/config/config_cpu.h"

struct json_t;

#define API_ENDPOINTS_MAX 40
#define API_METRICS_EVERY_MS 60000

enum api_state { API_NOT_STARTED, API_RUNNING, API_IS_PAUSED };

struct api {
	struct http *http; /* or NULL */
	const char *id;
	enum api_state state;
	const struct api_vm_ops *vm; /* once it has started */
	bool start;		     /* the VM is to be started */
	bool configured;	     /* a request has come that configures what a snapshot has */
	bool ended;		     /* the VM; its last metrics are written */
	bool unasked;		     /* by a file, so there is no request to answer */

	struct api_machine machine;
	struct api_boot_source boot_source;
	struct api_drive drive[CONFIG_DRIVES_MAX]; /* the root, if there is one, first */
	unsigned num_drives;
	struct api_net net[CONFIG_NETS_MAX];
	unsigned num_nets;
	struct api_vsock vsock;
	struct unix_socket vsock_socket; /* listens since the request */
	struct mmds mmds;
	struct config_cpu cpu;
	struct api_serial serial;
	bool boot_timer;
	bool show_level, show_origin; /* in the log */
	int log_fd, metrics_fd;	      /* that a client asked for, or -1 */
	bool emit_id;		      /* in each line of metrics, and properties, or NULL */
	struct json_t *properties;
	struct {
		uint64_t pause_us, resume_us, missed; /* Firecracker's names: latencies_us, missed_metrics_count */
		uint64_t create_us[2], load_us;	      /* full_create_snapshot, diff_create_snapshot, load_snapshot */
	} metrics;
	uint32_t count[API_ENDPOINTS_MAX], fails[API_ENDPOINTS_MAX];
	struct {
		uint64_t count[API_ENDPOINTS_MAX], fails[API_ENDPOINTS_MAX], device[CONFIG_DEVICES_MAX][4];
	} written; /* in the last line of metrics: lines have what is new */
	struct {
		bool asked, deprecated;
		struct api_snapshot_load params;
		uint64_t began_ns;
	} load; /* of the request that is answered by api_started or api_failed */
	uint32_t missing,
		replaced;   /* drives, by their numbers: api_missing_drive; with an image of the request to load */
	struct json_t *own; /* of a VM that was loaded with mayfly's own configuration (own.c); or NULL */
	uint32_t layered;   /* the same: drives with an overlay on their image, by their numbers */
	struct {
		unsigned type;
		uint64_t began_ns;
	} create; /* of the one that is answered by api_snapshot_done */
};

/* The struct of any object that a request has. What an endpoint has taken over is zeroed. */
union api_body {
	struct api_given given;
	struct api_machine machine;
	struct api_drive drive;
	struct api_net net;
	struct api_logger logger;
	struct api_serial serial;
	struct api_snapshot_create create;
	struct api_snapshot_load load;
	struct api_metrics metrics;
	struct api_mmds mmds;
	struct api_exec exec;
	struct json_t *json; /* of an endpoint that takes any value */
};

/* What a request is answered. */
struct api_answer {
	int status; /* 0: later, by api_started, api_failed or api_ran */
	char *body; /* JSON; or NULL */
	bool deprecated;
	const char *type; /* NULL: JSON */
	bool taken;	  /* goes to fd, by http_reply_last */
	int fd;
};

/* 204; 200 with an object, which is taken over; 400 with a sentence. */
void api_answer_done(struct api_answer *answer);
void api_answer_json(struct api_answer *answer, struct json_t *json);
void api_answer_fault(struct api_answer *answer, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

const char *api_method_name(enum http_method method); /* "Put" */
/* Sends an answer that was not sent by api_serve, and frees it. */
void api_send_answer(struct api *a, struct api_answer *answer);

/* What a request that has been read is about (router.c). */
void api_route(struct api *a, const struct http_request *request, struct api_answer *answer);

/* Whether the VM was not started; if it was, answers so. */
bool api_check_before(const struct api *a, struct api_answer *answer);

/* An endpoint: id is what its path ends with, or NULL; body is the struct of its object. */
typedef void api_handler(struct api *a, const char *id, void *body, struct api_answer *answer);

/* When a request may come: BOOT is BEFORE, and then no snapshot can be loaded. PLUG is BOOT: a device, which is not plugged in later. */
enum api_when { API_ALWAYS, API_BOOT, API_PLUG, API_BEFORE, API_AFTER };

struct api_endpoint {
	enum http_method method;
	const char *first, *second; /* of the path; second NULL: none */
	bool has_id;		    /* the second part is an id */
	enum api_when when;
	const struct api_object *object; /* in the body, or NULL */
	api_handler *handle;
	const char *metric; /* Firecracker's name of its counters, or NULL */
};

/* Endpoint i of the table (router.c); false if there is none. */
bool api_endpoint_of(unsigned i, struct api_endpoint *ret);

/* before.c: the configuration. These take over the values of body. */
api_handler api_put_machine, api_patch_machine, api_put_boot_source, api_put_drive, api_put_net, api_put_vsock,
	api_put_logger, api_put_metrics, api_put_serial;

/* cpu_config.c; the body is a struct json_t **. */
api_handler api_put_cpu;
void api_cpu_done(struct config_cpu *c);

/*
 * config_file.c: reads a file of JSON; flags are jansson's. Returns 0, or -EINVAL with e set, which names the file.
 */
int api_load_json(struct json_t **ret, const char *path, size_t flags, struct err *e);

/* mmds.c; the body of the first two is a struct json_t **, and id what follows in the path. */
api_handler api_put_mmds, api_patch_mmds, api_get_mmds, api_put_mmds_config;

/* after.c: the VM that runs. */
api_handler api_patch_vm, api_patch_drive, api_patch_net;

/* snapshot.c */
api_handler api_put_snapshot_create, api_put_snapshot_load;
const struct api_drive *api_missing_drive(const struct api *a);
int api_lend_missing(struct api *a, struct err *e); /* for api_lend */
/* The configuration that text has: api_read_own, or the API's objects. name is for messages. Returns 0 or -errno with e set. */
int api_read_config(struct api *a, struct config *c, const char *text, const char *name, struct err *e);

/*
 * own.c. api_is_own: whether json is mayfly's own configuration. api_read_own: reads such a text into c, and what clients see
 * of it into a. api_use_own: gives c what the client has in place of that. Return 0 or -errno with e set. api_print_own: what
 * a snapshot of the VM has; the caller's, or NULL if memory is short.
 */
bool api_is_own(const struct json_t *json);
int api_read_own(struct api *a, struct config *c, const char *text, const char *name, struct err *e);
int api_use_own(const struct api *a, struct config *c, struct err *e);
struct json_t *api_print_own(const struct api *a);

/* exec.c */
api_handler api_put_ready, api_put_exec;

/* metrics.c */
void api_write_metrics(struct api *a); /* a line, if a client wants metrics */
api_handler api_get_prometheus;

/* Of endpoint i; false if there is none. The name may be NULL. (router.c) */
struct api_requests {
	enum http_method method;
	const char *name;
	uint64_t count, fails;
};

bool api_requests_of(const struct api *a, unsigned i, struct api_requests *ret);

struct api_drive *api_find_drive(struct api *a, const char *id);
struct api_net *api_find_net(struct api *a, const char *id);

/* A bucket with a zero is none, and so is a limiter without buckets: key is its name in the object at of. */
void api_trim_limiter(const struct api_object *object, void *of, const char *key, struct api_limiter *l);
/* The tap of an interface: n's kind and name. Returns 0 or -errno with e set. */
int api_build_tap(struct config_net *n, const struct api_net *from, struct err *e);
struct ratelimit_params api_limit_of(const struct api_bucket *b); /* no limit, if one of its numbers is 0 */

/* report.c */
api_handler api_get_instance, api_get_version, api_get_machine, api_get_config, api_get_timeline;
struct json_t *api_print_config(const struct api *a); /* what the last answers; NULL if memory is short */

#endif
