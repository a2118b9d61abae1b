/* The tables of Firecracker's objects. The order is that in which GET prints the keys. */
#include "vmm/api/objects.h"

#include <stdlib.h>

#include "vmm/api/api.h"
#include "vmm/base/err.h"
#include "vmm/config/config.h"
#include "vmm/config/config_field.h"
#include "vmm/config/exec.h"

#define AT(type, member) .at = offsetof(struct type, member)
#define OBJECT(type, table) .fields = (table), .size = sizeof(struct type)

static const char *const template_words[] = { "None", "C3", "T2", "T2S", "T2CL", "T2A", NULL };
static const char *const huge_page_words[] = { "None", "Transparent", "2M", NULL };
static const char *const cache_words[] = { "Unsafe", "Writeback", NULL };
static const char *const engine_words[] = { "Sync", "Async", NULL };
static const char *const action_words[] = { "InstanceStart", "FlushMetrics", "SendCtrlAltDel", NULL };
static const char *const version_words[] = { "V1", "V2", NULL };
static const char *const state_words[] = { "Paused", "Resumed", NULL };

static const struct api_field bucket_fields[] = {
	{ "size", API_NUMBER, .required = true, AT(api_bucket, size), .max = INT64_MAX },
	{ "one_time_burst", API_NUMBER, AT(api_bucket, one_time_burst), .max = INT64_MAX },
	{ "refill_time", API_NUMBER, .required = true, AT(api_bucket, refill_time), .max = INT64_MAX },
	{ 0 },
};
static const struct api_object bucket = { "TokenBucket", OBJECT(api_bucket, bucket_fields), .loose = true };

static const struct api_field limiter_fields[] = {
	{ "bandwidth", API_OBJECT, AT(api_limiter, bandwidth), .object = &bucket },
	{ "ops", API_OBJECT, AT(api_limiter, ops), .object = &bucket },
	{ 0 },
};
const struct api_object api_limiter = { "RateLimiter", OBJECT(api_limiter, limiter_fields) };

static const struct api_field boot_source_fields[] = {
	{ "kernel_image_path", API_TEXT, .required = true, AT(api_boot_source, kernel_image_path) },
	{ "initrd_path", API_TEXT, AT(api_boot_source, initrd_path) },
	{ "boot_args", API_TEXT, AT(api_boot_source, boot_args) },
	{ 0 },
};
const struct api_object api_boot_source = { "BootSource", OBJECT(api_boot_source, boot_source_fields) };

#define MACHINE(needed)                                                                                                \
	{                                                                                                              \
		"vcpu_count",	 API_NUMBER, .required = (needed), .always = true, AT(api_machine, vcpu_count),        \
		.max = UINT8_MAX                                                                                       \
	},                                                                                                             \
		{ "mem_size_mib",  API_NUMBER, .required = (needed), .always = true, AT(api_machine, mem_size_mib),    \
		  .max = INT64_MAX },                                                                                  \
		{ "smt", API_BOOL, .always = true, .strict = (needed), AT(api_machine, smt) },                         \
		{ "cpu_template",	  API_WORD, .given = true, .deprecated = true, AT(api_machine, cpu_template),  \
		  .words = template_words },                                                                           \
		{ "track_dirty_pages", API_BOOL, .always = true, .strict = (needed),                                   \
		  AT(api_machine, track_dirty_pages) },                                                                \
		{ "huge_pages",                                                                                        \
		  API_WORD,                                                                                            \
		  .always = true,                                                                                      \
		  .strict = (needed),                                                                                  \
		  AT(api_machine, huge_pages),                                                                         \
		  .words = huge_page_words },                                                                          \
	{                                                                                                              \
		0                                                                                                      \
	}

static const struct api_field machine_fields[] = { MACHINE(true) };
const struct api_object api_machine = { "MachineConfiguration", OBJECT(api_machine, machine_fields) };
static const struct api_field machine_update_fields[] = { MACHINE(false) };
const struct api_object api_machine_update = { "MachineConfiguration", OBJECT(api_machine, machine_update_fields),
					       .some = true };

static const struct api_field drive_fields[] = {
	{ "drive_id", API_TEXT, .required = true, AT(api_drive, drive_id) },
	{ "partuuid", API_TEXT, AT(api_drive, partuuid) },
	{ "is_root_device", API_BOOL, .required = true, AT(api_drive, is_root_device) },
	{ "cache_type", API_WORD, .always = true, .strict = true, AT(api_drive, cache_type), .words = cache_words },
	{ "is_read_only", API_BOOL, .always = true, AT(api_drive, is_read_only) },
	{ "path_on_host", API_TEXT, AT(api_drive, path_on_host) },
	{ "rate_limiter", API_OBJECT, AT(api_drive, rate_limiter), .object = &api_limiter },
	{ "io_engine", API_WORD, .always = true, AT(api_drive, io_engine), .words = engine_words },
	{ "socket", API_TEXT, AT(api_drive, socket) },
	{ 0 },
};
const struct api_object api_drive = { "Drive", OBJECT(api_drive, drive_fields) };

static const struct api_field drive_update_fields[] = {
	{ "drive_id", API_TEXT, .required = true, AT(api_drive, drive_id) },
	{ "path_on_host", API_TEXT, AT(api_drive, path_on_host) },
	{ "rate_limiter", API_OBJECT, AT(api_drive, rate_limiter), .object = &api_limiter },
	{ 0 },
};
const struct api_object api_drive_update = { "PartialDrive", OBJECT(api_drive, drive_update_fields) };

/* Whether text is one to the configuration's field of that name. */
static bool is_of_net(const char *field, const char *text)
{
	const struct config_field *f = config_find_field(config_net_fields, field);
	struct config_net net = { 0 };
	struct err e;
	bool is = f->type->set(&net, f, text, &e) == 0;

	free(net.tap);
	return is;
}

static bool is_mac(const char *text)
{
	return is_of_net("mac", text);
}

bool api_is_tap(const char *text)
{
	return is_of_net("tap", text);
}

static const struct api_field net_fields[] = {
	{ "iface_id", API_TEXT, .required = true, AT(api_net, iface_id) },
	{ "host_dev_name", API_TEXT, .required = true, AT(api_net, host_dev_name) },
	{ "guest_mac", API_TEXT, AT(api_net, guest_mac), .is = is_mac, .fault = "The provided MAC address is invalid" },
	{ "mtu", API_NUMBER, AT(api_net, mtu), .max = UINT16_MAX },
	{ "rx_rate_limiter", API_OBJECT, AT(api_net, rx_rate_limiter), .object = &api_limiter },
	{ "tx_rate_limiter", API_OBJECT, AT(api_net, tx_rate_limiter), .object = &api_limiter },
	{ 0 },
};
const struct api_object api_net = { "NetworkInterface", OBJECT(api_net, net_fields) };

static const struct api_field net_update_fields[] = {
	{ "iface_id", API_TEXT, .required = true, AT(api_net, iface_id) },
	{ "rx_rate_limiter", API_OBJECT, AT(api_net, rx_rate_limiter), .object = &api_limiter },
	{ "tx_rate_limiter", API_OBJECT, AT(api_net, tx_rate_limiter), .object = &api_limiter },
	{ 0 },
};
const struct api_object api_net_update = { "PartialNetworkInterface", OBJECT(api_net, net_update_fields) };

static const struct api_field vsock_fields[] = {
	{ "guest_cid", API_NUMBER, .required = true, AT(api_vsock, guest_cid), .max = UINT32_MAX },
	{ "uds_path", API_TEXT, .required = true, AT(api_vsock, uds_path) },
	{ "vsock_id", API_TEXT, .hidden = true, .deprecated = true, AT(api_vsock, vsock_id) },
	{ 0 },
};
const struct api_object api_vsock = { "Vsock", OBJECT(api_vsock, vsock_fields) };

static const struct api_field logger_fields[] = {
	{ "log_path", API_TEXT, AT(api_logger, log_path) },
	{ "level", API_TEXT, AT(api_logger, level), .is = api_is_level, .fault = "Invalid LevelFilter" },
	{ "show_level", API_BOOL, AT(api_logger, show_level) },
	{ "show_log_origin", API_BOOL, AT(api_logger, show_log_origin) },
	{ "module", API_TEXT, AT(api_logger, module) },
	{ 0 },
};
const struct api_object api_logger = { "Logger", OBJECT(api_logger, logger_fields) };

static const struct api_field metrics_fields[] = {
	{ "metrics_path", API_TEXT, .required = true, AT(api_metrics, metrics_path) },
	{ "emit_id", API_BOOL, .always = true, .strict = true, AT(api_metrics, emit_id) },
	{ "properties", API_TEXTS, AT(api_metrics, properties) },
	{ 0 },
};
const struct api_object api_metrics = { "Metrics", OBJECT(api_metrics, metrics_fields), .loose = true };

static const struct api_field mmds_fields[] = {
	{ "version", API_WORD, .always = true, .strict = true, AT(api_mmds, version), .words = version_words },
	{ "network_interfaces", API_ANY, .required = true, AT(api_mmds, network_interfaces) },
	{ "ipv4_address", API_TEXT, .always = true, AT(api_mmds, ipv4_address) },
	{ "imds_compat", API_BOOL, .always = true, .strict = true, AT(api_mmds, imds_compat) },
	{ 0 },
};
const struct api_object api_mmds = { "MmdsConfig", OBJECT(api_mmds, mmds_fields) };

static const struct api_field serial_fields[] = {
	{ "serial_out_path", API_TEXT, AT(api_serial, serial_out_path) },
	{ "rate_limiter", API_OBJECT, AT(api_serial, rate_limiter), .object = &bucket },
	{ 0 },
};
const struct api_object api_serial = { "SerialDevice", OBJECT(api_serial, serial_fields) };

static const struct api_field action_fields[] = {
	{ "action_type", API_WORD, .required = true, AT(api_action, action_type), .words = action_words },
	{ 0 },
};
const struct api_object api_action = { "InstanceActionInfo", OBJECT(api_action, action_fields) };

static const struct api_field vm_fields[] = {
	{ "state", API_WORD, .required = true, AT(api_vm, state), .words = state_words },
	{ 0 },
};
const struct api_object api_vm = { "Vm", OBJECT(api_vm, vm_fields) };

static const char *const type_words[] = { "Full", "Diff", NULL };

static const struct api_field create_fields[] = {
	{ "snapshot_type", API_WORD, .strict = true, AT(api_snapshot_create, snapshot_type), .words = type_words },
	{ "snapshot_path", API_TEXT, .required = true, AT(api_snapshot_create, snapshot_path) },
	{ "mem_file_path", API_TEXT, .required = true, AT(api_snapshot_create, mem_file_path) },
	{ 0 },
};
const struct api_object api_snapshot_create = { "CreateSnapshotParams", OBJECT(api_snapshot_create, create_fields) };

static const char *const backend_words[] = { "File", "Uffd", NULL };
static const char *const load_page_words[] = { "Snapshot", "None", "Transparent", "2M", NULL };

static const struct api_field backend_fields[] = {
	{ "backend_path", API_TEXT, .required = true, AT(api_mem_backend, backend_path) },
	{ "backend_type", API_WORD, .required = true, AT(api_mem_backend, backend_type), .words = backend_words },
	{ 0 },
};
static const struct api_object mem_backend = { "MemBackendConfig", OBJECT(api_mem_backend, backend_fields) };

static const struct api_field net_override_fields[] = {
	{ "iface_id", API_TEXT, .required = true, AT(api_net_override, iface_id) },
	{ "host_dev_name", API_TEXT, .required = true, AT(api_net_override, host_dev_name) },
	{ 0 },
};
static const struct api_object net_override = { "NetworkOverride", OBJECT(api_net_override, net_override_fields),
						.loose = true };

static const struct api_field drive_override_fields[] = {
	{ "drive_id", API_TEXT, .required = true, AT(api_drive_override, drive_id) },
	{ "path_on_host", API_TEXT, .required = true, AT(api_drive_override, path_on_host) },
	{ 0 },
};
static const struct api_object drive_override = { "DriveOverride", OBJECT(api_drive_override, drive_override_fields),
						  .loose = true };

static const struct api_field vsock_override_fields[] = {
	{ "uds_path", API_TEXT, .required = true, AT(api_vsock_override, uds_path) },
	{ 0 },
};
static const struct api_object vsock_override = { "VsockOverride", OBJECT(api_vsock_override, vsock_override_fields),
						  .loose = true };

#define FLAG(name)                                                                                                     \
	{                                                                                                              \
#name, API_BOOL, .strict = true, AT(api_snapshot_load, name)                                           \
	}

static const struct api_field load_fields[] = {
	{ "snapshot_path", API_TEXT, .required = true, AT(api_snapshot_load, snapshot_path) },
	{ "mem_file_path", API_TEXT, AT(api_snapshot_load, mem_file_path) },
	{ "mem_backend", API_OBJECT, AT(api_snapshot_load, mem_backend), .object = &mem_backend },
	FLAG(enable_diff_snapshots),
	FLAG(track_dirty_pages),
	FLAG(resume_vm),
	{ "network_overrides", API_LIST, .strict = true, AT(api_snapshot_load, network_overrides),
	  .object = &net_override },
	{ "vsock_override", API_OBJECT, AT(api_snapshot_load, vsock_override), .object = &vsock_override },
	FLAG(clock_realtime),
	{ "huge_pages", API_WORD, .strict = true, AT(api_snapshot_load, huge_pages), .words = load_page_words },
	{ "drive_overrides", API_LIST, .strict = true, AT(api_snapshot_load, drive_overrides),
	  .object = &drive_override },
	{ 0 },
};
const struct api_object api_snapshot_load = { "LoadSnapshotConfig", OBJECT(api_snapshot_load, load_fields) };

#define TIMEOUT                                                                                                        \
	{                                                                                                              \
		"timeout_ms", API_NUMBER, .required = true, AT(api_exec, timeout_ms), .max = EXEC_TIMEOUT_MAX_MS       \
	}

static const struct api_field ready_fields[] = { TIMEOUT, { 0 } };
const struct api_object api_ready = { "Ready", OBJECT(api_exec, ready_fields) };

static const struct api_field exec_fields[] = {
	{ "argv", API_ANY, .required = true, AT(api_exec, argv) },
	{ "env", API_ANY, AT(api_exec, env) },
	{ "workdir", API_TEXT, AT(api_exec, workdir) },
	{ "user", API_TEXT, AT(api_exec, user) },
	{ "stdin", API_TEXT, AT(api_exec, input) },
	TIMEOUT,
	{ 0 },
};
const struct api_object api_exec = { "Exec", OBJECT(api_exec, exec_fields), .answers = true };
