/* Firecracker's command line; see firecracker.h. */
#include "vmm/cmd/firecracker.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "jailer/seccomp.h"
#include "vmm/api/api.h"
#include "vmm/api/http.h"
#include "vmm/api/objects.h"
#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/fdstore.h"
#include "vmm/base/log.h"
#include "vmm/base/parse.h"
#include "vmm/base/report.h"
#include "vmm/base/result.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/helper/helpers.h"
#include "vmm/helper/image_pack.h"
#include "vmm/jail/jail_group.h"
#include "vmm/jail/parent.h"
#include "vmm/process/async_teardown.h"
#include "vmm/process/confine.h"
#include "vmm/process/crash.h"
#include "vmm/process/ending.h"
#include "vmm/snapshot/chain.h"
#include "vmm/snapshot/dir.h"
#include "vmm/vm/timeline.h"
#include "vmm/vm/vm.h"
#include "vmm/vm/vm_change.h"
#include "vmm/vm/vm_counts.h"
#include "vmm/vm/vm_state.h"
#include "vmm/vm/vm_write.h"

/* Firecracker's exit statuses. */
enum {
	FC_OK = 0,
	FC_GENERIC = 1,
	FC_BAD_SYSCALL = 148,
	FC_BAD_CONFIGURATION = 152,
	FC_BAD_ARGUMENTS = 153,
};

#define ID_MAX 64
#define SNAPSHOT_VERSION "1.0.0" /* the format of a state, which has one number */

struct options {
	const char *socket, *id, *config_file, *log_path, *level, *metrics_path, *describe, *metadata;
	size_t body_max, mmds_max; /* mmds_max 0: as body_max */
	bool no_api, no_seccomp, boot_timer, show_level, show_origin, version, snapshot_version;
};

static int set_id(struct options *o, const char *text, struct err *e)
{
	size_t len = strlen(text);

	if (!len || len > ID_MAX ||
	    strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != len)
		return err_set(e, -EINVAL, "must be 1 to %d letters, digits or '-'", ID_MAX);
	o->id = text;
	return 0;
}

static int set_size(size_t *to, const char *text, struct err *e)
{
	uint64_t value;

	if (parse_u64(text, &value) < 0 || value < 1 || value > HTTP_BODY_MAX)
		return err_set(e, -EINVAL, "must be 1 to %u", HTTP_BODY_MAX);
	*to = value;
	return 0;
}

static int set_option(void *target, const char *key, const char *text, struct err *e)
{
	struct options *o = target;
	const struct {
		const char *key, **text;
		bool *flag;
	} plain[] = {
		{ "api-sock", &o->socket, NULL },
		{ "config-file", &o->config_file, NULL },
		{ "metadata", &o->metadata, NULL },
		{ "log-path", &o->log_path, NULL },
		{ "level", &o->level, NULL },
		{ "metrics-path", &o->metrics_path, NULL },
		{ "no-api", NULL, &o->no_api },
		{ "no-seccomp", NULL, &o->no_seccomp },
		{ "boot-timer", NULL, &o->boot_timer },
		{ "version", NULL, &o->version },
		{ "show-level", NULL, &o->show_level },
		{ "show-log-origin", NULL, &o->show_origin },
		{ "describe-snapshot", &o->describe, NULL },
		{ "snapshot-version", NULL, &o->snapshot_version },
	};

	if (!strcmp(key, "id"))
		return set_id(o, text, e);
	if (!strcmp(key, "http-api-max-payload-size"))
		return set_size(&o->body_max, text, e);
	if (!strcmp(key, "mmds-size-limit"))
		return set_size(&o->mmds_max, text, e);
	if (!strcmp(key, "refused"))
		return err_set(e, -ENOTSUP, "mayfly does not have this; see docs/firecracker.md");
	for (size_t i = 0; i < MF_ARRAY_SIZE(plain); i++) {
		if (strcmp(plain[i].key, key) != 0)
			continue;
		if (plain[i].text)
			*plain[i].text = text;
		else
			*plain[i].flag = true;
	}
	return 0;
}

/* clang-format off */
static const struct cli_option firecracker_options[] = {
	{ 0, "api-sock", "PATH", "where the API listens; default: " API_SOCKET_DEFAULT, .key = "api-sock" },
	{ 0, "id", "ID", "the VM's name; default: " API_ID_DEFAULT, .key = "id" },
	{ 0, "no-seccomp", NULL, "accepted; mayfly's filters stay", .key = "no-seccomp" },
	{ 0, "http-api-max-payload-size", "N", "bytes of a request's body; default: 51200",
	  .key = "http-api-max-payload-size" },
	{ 0, "config-file", "PATH", "configure a VM by a file, and start it", .key = "config-file" },
	{ 0, "no-api", NULL, "no socket; with --config-file", .key = "no-api" },
	{ 0, "log-path", "PATH", "where log lines go", .key = "log-path" },
	{ 0, "level", "LEVEL", "Off, Error, Warning, Info, Debug or Trace", .key = "level" },
	{ 0, "show-level", NULL, "the level in each log line", .key = "show-level" },
	{ 0, "show-log-origin", NULL, "the source file in each log line", .key = "show-log-origin" },
	{ 0, "module", "NAME", "accepted, no effect", .key = "module" },
	{ 0, "metrics-path", "PATH", "where metrics go", .key = "metrics-path" },
	{ 0, "mmds-size-limit", "N", "bytes of metadata; default: as --http-api-max-payload-size",
	  .key = "mmds-size-limit" },
	{ 0, "seccomp-filter", "PATH", "refused: filters are mayfly's", .key = "refused" },
	{ 0, "metadata", "PATH", "a file of JSON, for the guest", .key = "metadata" },
	{ 0, "enable-pci", NULL, "refused: there is no PCI", .key = "refused" },
	{ 0, "boot-timer", NULL, "log the time when the guest writes 123 to 0xc0000000", .key = "boot-timer" },
	{ 0, "start-time-us", "N", "accepted, for jailers that give it", .key = "start-time-us" },
	{ 0, "start-time-cpu-us", "N", "the same", .key = "start-time-cpu-us" },
	{ 0, "parent-cpu-time-us", "N", "the same", .key = "parent-cpu-time-us" },
	{ 0, "snapshot-version", NULL, "print the version of snapshots", .key = "snapshot-version" },
	{ 0, "describe-snapshot", "PATH", "print that of a snapshot, by its state", .key = "describe-snapshot" },
	{ 0, "version", NULL, "print the version", .key = "version" },
	{ 'h', "help", NULL, "this text", .set = NULL },
	{ 0 },
};
/* clang-format on */

const struct cli_usage firecracker_usage = {
	.command = "firecracker",
	.synopsis = "[--api-sock PATH] [...]",
	.about = "Serves Firecracker's API: a client configures a VM, and starts it. Also run if\n"
		 "mayfly is called as 'firecracker', or if its first argument is one of these\n"
		 "options.\n\n",
	.options = firecracker_options,
	.set_key = set_option,
};

bool firecracker_is_meant(int argc, char **argv)
{
	if (argc < 2 || strncmp(argv[1], "--", 2) != 0)
		return false;
	for (const struct cli_option *o = firecracker_options; o->help; o++)
		if (strcmp(o->long_name, "version") != 0 && strcmp(o->long_name, "help") != 0 &&
		    !strcmp(o->long_name, argv[1] + 2))
			return true;
	return false;
}

/* What the main thread and the API's thread share. All are static: threads use them until the process ends. */
static struct session {
	struct options options;
	struct api *api;
	struct confine confine; /* of the API's thread */
	struct config config;
	struct timeline timeline;
	struct helpers helpers;
	struct jail_group group;
	struct jail_parent parent;
	struct api_vm_ops vm;
	bool started;
} session;

static int confine_server(void *ctx)
{
	const struct session *s = ctx;
	const struct http_fds fds = api_fds(s->api);
	struct confine_own own = CONFINE_OWN_NONE;
	struct err e;

	own.listen = fds.listen;
	own.to = fds.asked;
	own.own = fds.replied;
	log_set_thread("api");
	crash_thread();
	if (confine_thread(&s->confine, THREAD_API, &own, &e) < 0) {
		report_err(&e);
		return e.code;
	}
	return 0;
}

static void on_started(void *api, struct vm *vm)
{
	struct session *s = &session;

	s->started = true;
	s->vm = (struct api_vm_ops){
		.set_paused = vm_set_paused,
		.change_drive = vm_change_drive,
		.change_net = vm_change_net,
		.type = vm_type,
		.snapshot = vm_write_begin,
		.device = vm_device_counts,
		.kvm = vm_kvm_counter,
		.latency = vm_latency,
		.steal = vm_steal,
		.phase = vm_phase,
		.timeline = vm_timeline,
		.exec = vm_exec,
		.vm = vm,
	};
	api_started(api, &s->vm);
}

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

/*
 * The configuration of a VM that is loaded comes from its snapshot: from a state that the API wrote, or from the directory of
 * one that `mayfly snapshot` wrote, which is then in *ret_dir, the caller's.
 */
static int load_config(struct api *api, struct config *c, char **ret_dir, struct err *e)
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

static int build_config(struct session *s, struct err *e)
{
	const bool load = api_load(s->api);
	MF_FREE char *dir = NULL;
	int r = load ? load_config(s->api, &s->config, &dir, e) : 0;

	if (!r)
		r = api_build_config(s->api, &s->config, e);
	if (!r)
		r = config_check(&s->config, e);
	if (!r && load)
		r = vm_find_layers(&s->config, dir, e);
	if (!r && load)
		r = vm_restore_check(&s->config, e);
	return r ? r : api_lend(s->api, e);
}

/* What `mayfly restore` starts for such a VM, if this was one of `mayfly run`. */
static int start_helpers(struct session *s, struct err *e)
{
	int r = image_pack_drives(&s->config, e);

	if (r >= 0 && helpers_start(&s->helpers, &s->config, e) < 0) {
		r = e->code;
		helpers_end(&s->helpers);
	}
	return r < 0 ? r : 0;
}

/* Runs the VM as it is configured. Returns its status once it has ended; or, if it could not be started, anything. */
static int run_vm(struct session *s)
{
	const struct api_snapshot_load *load = api_load(s->api);
	struct vm_attendant attendant = {
		.fd = api_fd(s->api),
		.started = on_started,
		.failed = api_failed,
		.serve = api_serve,
		.ended = api_ended,
		.written = api_snapshot_done,
		.ran = api_ran,
		.paused = load && !load->resume_vm,
		.serve_guest = api_serve_guest,
		.ctx = s->api,
	};
	struct err e;

	config_done(&s->config);
	config_init(&s->config);
	if (build_config(s, &e) < 0 || start_helpers(s, &e) < 0) {
		api_failed(s->api, &e);
		return STATUS_FAILED;
	}
	s->config.log_level = log_enabled(LOG_LEVEL_INFO) ? LOG_LEVEL_INFO : LOG_LEVEL_WARN;
	free(s->timeline.about);
	timeline_init(&s->timeline);
	s->timeline.from = load ? "snapshot" : NULL;
	s->timeline.about = calloc(1, sizeof(*s->timeline.about)); /* for KVM's counters; without memory, none */
	if (s->timeline.about) {
		s->timeline.about->kernel = s->config.kernel;
		(void)uname(&s->timeline.about->host); /* cannot fail */
	}
	attendant.guest_fd = api_guest_fd(s->api);
	return vm_main(&s->config, &s->timeline, &s->parent, &attendant);
}

/* mayfly's status in Firecracker's terms. */
static int status_of(int status)
{
	if (status <= STATUS_OK)
		return status;
	return status == STATUS_SECCOMP ? FC_BAD_SYSCALL : FC_GENERIC;
}

/* Serves requests, and the VM, until it has ended. */
static int serve(struct session *s)
{
	int status = STATUS_OK;

	while (!s->started) {
		if (api_await_start(s->api, s->parent.signal_fd) == API_SIGNAL)
			return -ending_take(s->parent.signal_fd);
		status = run_vm(s);
		if (!s->started && (s->options.config_file || api_load(s->api)))
			return FC_GENERIC;
	}
	return status_of(status);
}

static int start(struct session *s, struct err *e)
{
	const struct ending_kind kind = { .command = false, .asked_ms = ENDING_ASKED_MS };
	const struct options *o = &s->options;
	const struct api_params params = { .socket = o->no_api ? NULL : o->socket,
					   .id = s->options.id,
					   .body_max = s->options.body_max,
					   .boot_timer = s->options.boot_timer,
					   .mmds_max = o->mmds_max ? o->mmds_max : o->body_max };

	/* Threads must not make heaps of their own, nor map large blocks: their filters forbid that. */
	(void)mallopt(M_ARENA_MAX, 1);
	(void)mallopt(M_MMAP_MAX, 0);
	s->parent = (struct jail_parent){
		.helpers = &s->helpers,
		.group = &s->group,
		.signal_fd = -1,
		.tty_fd = -1,
		.vsock_fd = -1,
		.mounts_fd = -1,
	};
	s->parent.signal_fd = ending_setup(&kind, e);
	if (s->parent.signal_fd < 0 || crash_setup(e) < 0 || seccomp_no_new_privs(e) < 0)
		return e->code;
	log_setup(o->boot_timer ? LOG_LEVEL_INFO : LOG_LEVEL_WARN, -1); /* its line is information */
	fdstore_use();
	confine_init(&s->confine, SECCOMP_POLICY_KILL);
	if (api_new(&s->api, &params, e) < 0)
		return e->code;
	api_show_in_log(s->api, o->show_level, o->show_origin);
	if ((o->log_path || o->level) && api_set_logger(s->api, o->log_path, o->level, e) < 0)
		return e->code;
	log_info("Running Firecracker v%s (mayfly %s)", API_VERSION, MF_VERSION);
	if (s->options.no_seccomp)
		log_info("--no-seccomp: mayfly's filters stay");
	if (o->metrics_path && api_set_metrics(s->api, o->metrics_path, e) < 0)
		return e->code;
	if (o->metadata && api_load_metadata(s->api, o->metadata, e) < 0)
		return e->code;
	/* The server listens before the file is read, and answers once the VM runs. */
	if (api_start(s->api, confine_server, s, e) < 0)
		return e->code;
	return o->config_file ? api_load_file(s->api, o->config_file, e) : 0;
}

/* Of what was asked for first, in Firecracker's order. Returns the status. */
static int print_version(const struct options *o)
{
	struct config c = { .restore_state = (char *)(uintptr_t)o->describe,
			    .restore_served = true,
			    .restore_merged = true };
	MF_FREE char *config = NULL;
	struct err e;

	if (!o->version && !o->snapshot_version && vm_read_config(&c, &config, &e) < 0) {
		report_err(&e);
		return FC_GENERIC;
	}
	if (o->version)
		printf("Firecracker v%s\nmayfly %s\n", API_VERSION, MF_VERSION);
	else
		printf("v%s\n", SNAPSHOT_VERSION);
	return cli_check_stdout(&e) < 0 ? FC_GENERIC : FC_OK;
}

int firecracker_command(int argc, char **argv)
{
	struct session *s = &session;
	struct err e;
	int rest, r;

	result_init();
	s->options =
		(struct options){ .socket = API_SOCKET_DEFAULT, .id = API_ID_DEFAULT, .body_max = HTTP_BODY_DEFAULT };
	r = cli_parse_strict(&firecracker_usage, &s->options, argc, argv, &rest, &e);
	if (r == 0 && rest < argc)
		r = err_set(&e, -EINVAL, "unexpected argument '%s'", argv[rest]);
	if (r == 0 && s->options.no_api && !s->options.config_file)
		r = err_set(&e, -EINVAL, "option '--no-api' needs --config-file");
	if (r < 0) {
		report_err(&e);
		return FC_BAD_ARGUMENTS;
	}
	if (r > 0)
		return FC_OK;
	if (s->options.version || s->options.snapshot_version || s->options.describe)
		return print_version(&s->options);
	if (s->options.level && !api_is_level(s->options.level)) {
		err_set(&e, -EINVAL, "option '--level %.40s': no such level", s->options.level);
		report_err(&e);
		return FC_BAD_CONFIGURATION;
	}
	if (start(s, &e) < 0) {
		report_err(&e);
		r = FC_GENERIC;
	} else {
		r = serve(s);
	}
	api_free(s->api);
	if (s->started)
		async_teardown_start();
	return ending_status_of(r);
}
