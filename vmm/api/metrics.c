/*
 * Metrics: Firecracker's, a line of JSON for each time, and Prometheus's, as text for each request.
 * As there, counters of a line are what is new since the last one; latencies are the last ones.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vmm/api/state.h"
#include "vmm/base/util.h"

enum { TO_REQUESTS, TO_BYTES, FROM_REQUESTS, FROM_BYTES, NUM_COUNTS };

/* By what Firecracker calls a device's counters, in the order of those. */
static const struct family {
	const char *kind, *name; /* mayfly's, Firecracker's */
	const char *counter[NUM_COUNTS];
} families[] = {
	{ "drive", "block", { "read_count", "read_bytes", "write_count", "write_bytes" } },
	{ "net", "net", { "rx_packets_count", "rx_bytes_count", "tx_packets_count", "tx_bytes_count" } },
	{ "vsock", "vsock", { "rx_packets_count", "rx_bytes_count", "tx_packets_count", "tx_bytes_count" } },
};

/* The member of that name, an object; made if it is not there. */
static json_t *object_in(json_t *root, const char *name)
{
	json_t *object = json_object_get(root, name);

	if (object)
		return object;
	(void)json_object_set_new(root, name, json_object()); /* if memory is short, the line has less */
	return json_object_get(root, name);
}

static void add(json_t *object, const char *name, uint64_t value)
{
	json_t *old = json_object_get(object, name);

	(void)json_object_set_new(object, name,
				  json_integer(json_integer_value(old) + (json_int_t)value)); /* as above */
}

static void add_requests(struct api *a, json_t *root)
{
	static const char *const groups[] = {
		[HTTP_GET] = "get_api_requests",
		[HTTP_PUT] = "put_api_requests",
		[HTTP_PATCH] = "patch_api_requests",
		[HTTP_DELETE] = "delete_api_requests",
	};
	struct api_requests r;
	char name[64];

	for (unsigned i = 0; api_requests_of(a, i, &r); i++) {
		if (!r.name)
			continue;
		snprintf(name, sizeof(name), "%s_count", r.name);
		add(object_in(root, groups[r.method]), name, r.count - a->written.count[i]);
		a->written.count[i] = r.count;
		if (r.method == HTTP_GET)
			continue;
		snprintf(name, sizeof(name), "%s_fails", r.name);
		add(object_in(root, groups[r.method]), name, r.fails - a->written.fails[i]);
		a->written.fails[i] = r.fails;
	}
}

/* A device has an object of its own, and its kind one with the sum. There is one vsock. */
static void add_device(json_t *root, const char *kind, const char *id, const uint64_t fresh[NUM_COUNTS])
{
	char name[CONFIG_ID_MAX + 16];

	for (size_t f = 0; f < MF_ARRAY_SIZE(families); f++) {
		if (strcmp(families[f].kind, kind) != 0)
			continue;
		snprintf(name, sizeof(name), "%s_%s", families[f].name, id);
		for (unsigned k = 0; k < NUM_COUNTS; k++) {
			add(object_in(root, families[f].name), families[f].counter[k], fresh[k]);
			if (strcmp(kind, "vsock") != 0)
				add(object_in(root, name), families[f].counter[k], fresh[k]);
		}
	}
}

static void add_devices(struct api *a, json_t *root)
{
	uint64_t n[NUM_COUNTS], fresh[NUM_COUNTS];
	const char *id, *kind;

	for (unsigned i = 0; a->vm && i < CONFIG_DEVICES_MAX && a->vm->device(a->vm->vm, i, &id, &kind, n); i++) {
		for (unsigned k = 0; k < NUM_COUNTS; k++) {
			fresh[k] = n[k] - a->written.device[i][k];
			a->written.device[i][k] = n[k];
		}
		add_device(root, kind, id, fresh);
	}
}

static json_t *make_line(struct api *a)
{
	json_t *root = json_object(), *latencies, *logger;
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail */
	add(root, "utc_timestamp_ms", (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000);
	/* If memory is short, the line has less. */
	if (a->emit_id)
		(void)json_object_set_new(root, "id", json_string(a->id));
	if (a->properties)
		(void)json_object_set(root, "properties", a->properties);
	add_requests(a, root);
	add_devices(a, root);
	latencies = object_in(root, "latencies_us");
	add(latencies, "full_create_snapshot", a->metrics.create_us[API_SNAPSHOT_FULL]);
	add(latencies, "diff_create_snapshot", a->metrics.create_us[API_SNAPSHOT_DIFF]);
	add(latencies, "load_snapshot", a->metrics.load_us);
	add(latencies, "pause_vm", a->metrics.pause_us);
	add(latencies, "resume_vm", a->metrics.resume_us);
	logger = object_in(root, "logger");
	add(logger, "missed_metrics_count", a->metrics.missed);
	a->metrics.missed = 0;
	return root;
}

/* A FIFO that nobody reads is not waited for: the line is dropped and counted. */
void api_write_metrics(struct api *a)
{
	json_t *root = a->metrics_fd < 0 ? NULL : make_line(a);
	char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
	size_t len = text ? strlen(text) : 0;

	json_decref(root);
	if (!text)
		return;
	text[len] = '\n'; /* in place of the NUL */
	if (write(a->metrics_fd, text, len + 1) != (ssize_t)len + 1)
		a->metrics.missed++;
	free(text);
}

static void print_requests(const struct api *a, FILE *file)
{
	struct api_requests r;

	fputs("# TYPE mayfly_api_requests_total counter\n", file);
	for (unsigned i = 0; api_requests_of(a, i, &r); i++)
		if (r.name)
			fprintf(file, "mayfly_api_requests_total{method=\"%s\",endpoint=\"%s\"} %" PRIu64 "\n",
				http_method_name(r.method), r.name, r.count);
	fputs("# TYPE mayfly_api_failures_total counter\n", file);
	for (unsigned i = 0; api_requests_of(a, i, &r); i++)
		if (r.name)
			fprintf(file, "mayfly_api_failures_total{method=\"%s\",endpoint=\"%s\"} %" PRIu64 "\n",
				http_method_name(r.method), r.name, r.fails);
}

static void print_devices(const struct api *a, FILE *file)
{
	static const char *const directions[] = { "to_guest", "from_guest" };
	static const char *const names[] = { "mayfly_device_requests_total", "mayfly_device_bytes_total" };
	uint64_t n[NUM_COUNTS];
	const char *id, *kind;

	for (unsigned k = 0; k < 2; k++) {
		fprintf(file, "# TYPE %s counter\n", names[k]);
		for (unsigned i = 0; a->vm->device(a->vm->vm, i, &id, &kind, n); i++)
			for (unsigned d = 0; d < 2; d++)
				fprintf(file, "%s{kind=\"%s\",id=\"%s\",direction=\"%s\"} %" PRIu64 "\n", names[k],
					kind, id, directions[d], n[d * 2 + k]);
	}
}

static void print_latencies(const struct api *a, FILE *file)
{
	static const char name[] = "mayfly_request_seconds";
	char labels[CONFIG_ID_MAX + 64], le[32];
	uint64_t n[33], counts[NUM_COUNTS];
	const char *id, *kind;
	double unit;

	fprintf(file, "# TYPE %s histogram\n", name);
	for (unsigned i = 0; a->vm->device(a->vm->vm, i, &id, &kind, counts); i++) {
		const unsigned num = a->vm->latency(a->vm->vm, i, n, &unit);
		uint64_t sum = 0;

		snprintf(labels, sizeof(labels), "kind=\"%s\",id=\"%s\"", kind, id);
		for (unsigned k = 0; k < num; k++) {
			snprintf(le, sizeof(le), "%.4g", unit * (double)(1U << k));
			sum += n[k];
			fprintf(file, "%s_bucket{%s,le=\"%s\"} %" PRIu64 "\n", name, labels, k + 1 < num ? le : "+Inf",
				sum);
		}
		if (num)
			fprintf(file, "%s_sum{%s} %.9f\n%s_count{%s} %" PRIu64 "\n", name, labels,
				unit * (double)n[num], name, labels, sum);
	}
}

static void print_vm(const struct api *a, FILE *file)
{
	const char *name;
	uint64_t value;

	fputs("# TYPE mayfly_kvm_total counter\n", file);
	for (unsigned i = 0; a->vm->kvm(a->vm->vm, i, &name, &value); i++)
		fprintf(file, "mayfly_kvm_total{counter=\"%s\"} %" PRIu64 "\n", name, value);
	fputs("# TYPE mayfly_start_seconds gauge\n", file);
	for (unsigned i = 0; a->vm->phase(a->vm->vm, i, &name, &value); i++)
		if (value)
			fprintf(file, "mayfly_start_seconds{phase=\"%s\"} %.6f\n", name, (double)value / 1e9);
	fputs("# TYPE mayfly_steal_seconds_total counter\n", file);
	for (unsigned i = 0; a->vm->steal(a->vm->vm, i, &value); i++)
		fprintf(file, "mayfly_steal_seconds_total{vcpu=\"%u\"} %.9f\n", i, (double)value / 1e9);
	print_devices(a, file);
	print_latencies(a, file);
}

void api_get_prometheus(struct api *a, const char *id, void *body, struct api_answer *answer)
{
	char *text = NULL;
	size_t size;
	FILE *file = open_memstream(&text, &size);

	(void)id;
	(void)body;
	if (file) {
		fprintf(file, "# TYPE mayfly_running gauge\nmayfly_running %d\n", a->state == API_RUNNING);
		print_requests(a, file);
		if (a->vm)
			print_vm(a, file);
	}
	if (!file || fclose(file) != 0 || !text) {
		free(text);
		answer->status = 503;
		return;
	}
	answer->status = 200;
	answer->type = "text/plain; version=0.0.4";
	answer->body = text;
}
