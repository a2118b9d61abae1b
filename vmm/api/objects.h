/* The objects of Firecracker's API that mayfly knows; object.h reads and prints them. */
#ifndef MF_API_OBJECTS_H
#define MF_API_OBJECTS_H

#include "vmm/api/object.h"

struct api_bucket {
	struct api_given given;
	uint64_t size, one_time_burst, refill_time; /* milliseconds */
};

struct api_limiter {
	struct api_given given;
	struct api_bucket bandwidth, ops;
};

struct api_boot_source {
	struct api_given given;
	char *kernel_image_path, *initrd_path, *boot_args;
};

enum api_huge_pages { API_HUGE_NONE, API_HUGE_TRANSPARENT, API_HUGE_2M };

struct api_machine {
	struct api_given given;
	uint64_t vcpu_count, mem_size_mib;
	bool smt, track_dirty_pages;
	unsigned cpu_template, huge_pages;
};

enum api_cache_type { API_CACHE_UNSAFE, API_CACHE_WRITEBACK };

struct api_drive {
	struct api_given given;
	char *drive_id, *partuuid, *path_on_host, *socket;
	bool is_root_device, is_read_only;
	unsigned cache_type, io_engine;
	struct api_limiter rate_limiter;
};

struct api_net {
	struct api_given given;
	char *iface_id, *host_dev_name, *guest_mac;
	uint64_t mtu;
	struct api_limiter rx_rate_limiter, tx_rate_limiter;
};

struct api_vsock {
	struct api_given given;
	char *vsock_id, *uds_path;
	uint64_t guest_cid;
};

struct api_logger {
	struct api_given given;
	char *log_path, *level, *module;
	bool show_level, show_log_origin;
};

struct api_metrics {
	struct api_given given;
	char *metrics_path;
	bool emit_id;
	struct json_t *properties; /* of strings */
};

struct api_serial {
	struct api_given given;
	char *serial_out_path;
	struct api_bucket rate_limiter;
};

enum api_mmds_version { API_MMDS_V1, API_MMDS_V2 };

struct api_mmds {
	struct api_given given;
	unsigned version;
	struct json_t *network_interfaces; /* a list of ids */
	char *ipv4_address;
	bool imds_compat;
};

enum api_action_type { API_INSTANCE_START, API_FLUSH_METRICS, API_CTRL_ALT_DEL };

struct api_action {
	struct api_given given;
	unsigned action_type;
};

enum api_vm_state { API_PAUSED, API_RESUMED };

struct api_vm {
	struct api_given given;
	unsigned state;
};

enum api_snapshot_type { API_SNAPSHOT_FULL, API_SNAPSHOT_DIFF };

struct api_snapshot_create {
	struct api_given given;
	char *snapshot_path, *mem_file_path;
	unsigned snapshot_type;
};

enum api_backend_type { API_BACKEND_FILE, API_BACKEND_UFFD };

struct api_mem_backend {
	struct api_given given;
	char *backend_path;
	unsigned backend_type;
};

struct api_net_override {
	struct api_given given;
	char *iface_id, *host_dev_name;
};

struct api_drive_override {
	struct api_given given;
	char *drive_id, *path_on_host;
};

struct api_vsock_override {
	struct api_given given;
	char *uds_path;
};

enum api_load_pages { API_LOAD_AS_BEFORE }; /* then those of enum api_huge_pages */

struct api_snapshot_load {
	struct api_given given;
	char *snapshot_path, *mem_file_path; /* mem_file_path: or mem_backend */
	struct api_mem_backend mem_backend;
	bool enable_diff_snapshots, track_dirty_pages; /* the same, by its older name and by its newer one */
	bool resume_vm, clock_realtime;
	struct api_list network_overrides, drive_overrides;
	struct api_vsock_override vsock_override;
	unsigned huge_pages;
};

/* Of /mayfly/ready and /mayfly/exec. */
struct api_exec {
	struct api_given given;
	struct json_t *argv, *env; /* lists of strings */
	char *workdir, *user, *input;
	uint64_t timeout_ms;
};

extern const struct api_object api_limiter, api_boot_source, api_machine, api_machine_update, api_drive,
	api_drive_update, api_net, api_net_update, api_vsock, api_logger, api_metrics, api_mmds, api_serial, api_action,
	api_vm, api_snapshot_create, api_snapshot_load, api_ready, api_exec;

/* Whether it is the name of a network interface, without a place that the kernel fills in. */
bool api_is_tap(const char *text);

#endif
