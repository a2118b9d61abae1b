/*
 * `mayfly stats`: what VMs use. CPU time and memory are what /proc says of the VM's process; the rest is what its devices have
 * counted. A percentage is of one CPU, since the last line of that VM, or since its start.
 */
#include "vmm/cmd/stats.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"
#include "vmm/cli/cli.h"
#include "vmm/cmd/look.h"
#include "vmm/cmd/vms.h"
#include "vmm/records/record.h"

#define SIZE_TEXT 16

struct stats_options {
	struct vms vms; /* none: all */
	bool json, no_stream;
};

enum stats_kind { STATS_DRIVES, STATS_NETS, STATS_VSOCK, STATS_KINDS };

static const struct {
	const char *device, *key; /* as the VM's device is called, and the member here */
} stats_kinds[STATS_KINDS] = { { "drive", "drives" }, { "net", "nets" }, { "vsock", "vsock" } };

static const char *const stats_counts[] = { "to_guest_requests", "to_guest_bytes", "from_guest_requests",
					    "from_guest_bytes" };
enum { TO_GUEST_BYTES = 1, FROM_GUEST_BYTES = 3, NUM_COUNTS };

/* Of one VM, at one time. */
struct stats {
	char name[RECORD_NAME_MAX + 1];
	uint64_t id_ticks; /* of its start: another VM of the same name has other ones */
	pid_t pid;
	uint64_t at_ms, since_ms; /* by clock_now_ms; what the percentages are of */
	struct look_usage used, before;
	bool has_devices;
	uint64_t count[STATS_KINDS][NUM_COUNTS];
};

static const struct cli_option stats_options[] = {
	{ 0, "json", NULL, "an array of objects, once; mayfly(1) has their members",
	  .flag = CLI_FLAG(struct stats_options, json) },
	{ 0, "no-stream", NULL, "once; default: each second, if stdout is a terminal",
	  .flag = CLI_FLAG(struct stats_options, no_stream) },
	{ 'h', "help", NULL, "this text", .set = NULL },
	{ 0 },
};

const struct cli_usage stats_usage = {
	.command = "stats",
	.synopsis = "[--json|--no-stream] [NAME...]",
	.about = "Prints what VMs use: CPU, memory, and the bytes of drives, networks and vsock.\n\n",
	.options = stats_options,
	.operand = vms_add_name,
	.list_operands = vms_list,
};

/* Adds up what the VM says of its devices, whatever that is. */
static void stats_add_devices(struct stats *s, const json_t *info)
{
	const json_t *list = json_object_get(info, "devices");
	const json_t *device;
	size_t i;

	s->has_devices = json_is_array(list);
	json_array_foreach(list, i, device) {
		const char *kind = json_string_value(json_object_get(device, "kind"));

		for (unsigned k = 0; kind && k < STATS_KINDS; k++)
			for (unsigned n = 0; !strcmp(kind, stats_kinds[k].device) && n < NUM_COUNTS; n++)
				s->count[k][n] +=
					(uint64_t)json_integer_value(json_object_get(device, stats_counts[n]));
	}
}

/* Returns 0, or -ESRCH if it has ended meanwhile. */
static int stats_take(struct stats *s, const struct record *r)
{
	const char *control = record_text(r, "control");
	struct look l = { 0 };
	struct err ignored;

	*s = (struct stats){ .pid = r->pid, .id_ticks = r->start_ticks, .at_ms = clock_now_ms() };
	snprintf(s->name, sizeof(s->name), "%s", r->name);
	/* One that has no control socket, or does not answer, has no devices here. */
	if (control && look_at(&l, control, &ignored) == 0) {
		stats_add_devices(s, l.info);
		s->pid = l.pid ? l.pid : r->pid;
	}
	look_done(&l);
	s->since_ms = s->at_ms - (uint64_t)MF_MAX(0.0, ((double)time(NULL) - record_time(r, "created")) * 1000);
	return look_usage(s->pid, &s->used);
}

/* What has changed since then. */
static void stats_compare(struct stats *s, const struct stats *before, size_t num)
{
	for (size_t i = 0; i < num; i++) {
		if (before[i].pid != s->pid || before[i].id_ticks != s->id_ticks)
			continue;
		s->since_ms = before[i].at_ms;
		s->before = before[i].used;
	}
}

static double percent(uint64_t used_ms, uint64_t before_ms, uint64_t of_ms)
{
	return of_ms && used_ms > before_ms ? (double)(used_ms - before_ms) * 100 / (double)of_ms : 0;
}

static double vcpu_percent(const struct stats *s)
{
	return percent(s->used.vcpu_ms, s->before.vcpu_ms, s->at_ms - s->since_ms);
}

static double other_percent(const struct stats *s)
{
	return percent(s->used.other_ms, s->before.other_ms, s->at_ms - s->since_ms);
}

static json_t *stats_json(const struct stats *s)
{
	json_t *json = json_pack("{s:s,s:i,s:f,s:f,s:f,s:f,s:I}", "name", s->name, "pid", (int)s->pid, "vcpu_percent",
				 vcpu_percent(s), "monitor_percent", other_percent(s), "vcpu_seconds",
				 (double)s->used.vcpu_ms / 1000, "monitor_seconds", (double)s->used.other_ms / 1000,
				 "memory_bytes", (json_int_t)s->used.memory);

	for (unsigned k = 0; k < STATS_KINDS; k++) {
		json_t *counts = s->has_devices ? json_object() : json_null();

		for (unsigned n = 0; s->has_devices && n < NUM_COUNTS; n++)
			(void)json_object_set_new(counts, stats_counts[n], json_integer((json_int_t)s->count[k][n]));
		(void)json_object_set_new(json, stats_kinds[k].key,
					  counts); /* without memory, the print fails as well */
	}
	return json;
}

static const char *size_text(uint64_t bytes, char text[SIZE_TEXT])
{
	static const char units[] = "BKMGTPE";
	double n = (double)bytes;
	unsigned unit = 0;

	for (; n >= 1000 && unit < sizeof(units) - 2; unit++)
		n /= 1024;
	snprintf(text, SIZE_TEXT, unit && n < 10 ? "%.1f%c" : "%.0f%c", n, units[unit]);
	return text;
}

static void stats_print_row(const struct stats *s, int width)
{
	char to[SIZE_TEXT], from[SIZE_TEXT];

	printf("%-*s  %7d  %6.1f  %6.1f  %6s", width, s->name, s->pid, vcpu_percent(s), other_percent(s),
	       size_text(s->used.memory, to));
	for (unsigned k = 0; k < STATS_KINDS; k++) {
		if (s->has_devices)
			printf("  %6s %6s", size_text(s->count[k][TO_GUEST_BYTES], to),
			       size_text(s->count[k][FROM_GUEST_BYTES], from));
		else
			printf("  %6s %6s", "-", "-");
	}
	printf("\n");
}

static int stats_print(const struct stats_options *o, const struct stats *list, size_t num, struct err *e)
{
	int width = (int)sizeof("NAME") - 1;

	if (o->json) {
		json_t *all = json_array();

		for (size_t i = 0; i < num; i++)
			(void)json_array_append_new(all, stats_json(&list[i])); /* a failure leaves it out */
		if (json_dumpf(all, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) < 0)
			return err_set(e, -EIO, "print the list");
		json_decref(all);
		printf("\n");
		return cli_check_stdout(e);
	}
	for (size_t i = 0; i < num; i++)
		width = MF_MAX(width, (int)strlen(list[i].name));
	if (!o->no_stream)
		printf("\033[H\033[J"); /* from the top of an empty screen */
	printf("%-*s  %7s  %6s  %6s  %6s  %13s  %13s  %13s\n", width, "NAME", "PID", "VCPU%", "MON%", "MEM", "DISK R/W",
	       "NET RX/TX", "VSOCK IN/OUT");
	for (size_t i = 0; i < num; i++)
		stats_print_row(&list[i], width);
	return cli_check_stdout(e);
}

static bool is_wanted(const struct stats_options *o, const struct record *r)
{
	for (unsigned i = 0; i < o->vms.num; i++)
		if (!strcmp(o->vms.name[i], r->name))
			return r->alive;
	return !o->vms.num && r->alive;
}

/* Each name must be one of a VM that runs. */
static int stats_check_names(const struct stats_options *o, struct err *e)
{
	struct record r;

	for (unsigned i = 0; i < o->vms.num; i++) {
		bool alive;

		if (record_find(o->vms.name[i], &r, e) < 0)
			return e->code;
		alive = r.alive;
		record_done(&r);
		if (!alive)
			return err_set(e, -ESRCH, "VM '%s' has ended", o->vms.name[i]);
	}
	return 0;
}

/* Takes and prints them once. *list are those before, and then those of now. */
static int stats_turn(const struct stats_options *o, struct stats **list, size_t *num, struct err *e)
{
	MF_CLOSE int dir = records_open(false, e);
	struct record *records = NULL;
	struct stats *now;
	size_t num_records = 0, n = 0;

	if (dir < 0 && dir != -ENOENT)
		return dir;
	if (dir >= 0 && records_list(dir, &records, &num_records, e) < 0)
		return e->code;
	now = calloc(num_records + 1, sizeof(*now));
	for (size_t i = 0; now && i < num_records; i++) {
		if (!is_wanted(o, &records[i]) || stats_take(&now[n], &records[i]) < 0)
			continue;
		stats_compare(&now[n++], *list, *num);
	}
	records_free(records, num_records);
	free(*list);
	*list = now;
	*num = n;
	return now ? stats_print(o, now, n, e) : err_set(e, -ENOMEM, "out of memory");
}

static int stats(const struct stats_options *o, struct err *e)
{
	const struct itimerspec each = { .it_interval.tv_sec = 1, .it_value.tv_sec = 1 };
	MF_CLOSE int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	struct stats *list = NULL;
	uint64_t count;
	size_t num = 0;
	int r = stats_check_names(o, e);

	if (r == 0)
		r = stats_turn(o, &list, &num, e);
	if (r == 0 && !o->no_stream && (timer < 0 || timerfd_settime(timer, 0, &each, NULL) < 0))
		r = err_sys(e, "make a timer");
	while (r == 0 && !o->no_stream) {
		if (read(timer, &count, sizeof(count)) != sizeof(count))
			continue; /* EINTR: a signal that ends us does so */
		r = stats_turn(o, &list, &num, e);
		if (o->vms.num && !num)
			break; /* all have ended */
	}
	free(list);
	return r;
}

int stats_command(int argc, char **argv)
{
	static struct stats_options o;
	struct err e;
	int r = cli_parse(&stats_usage, &o, argc, argv, &e);

	if (r > 0)
		return STATUS_OK;
	o.no_stream |= o.json || !isatty(STDOUT_FILENO);
	if (r == 0)
		r = stats(&o, &e);
	if (r < 0) {
		err_wrap(&e, "stats");
		return report_err(&e);
	}
	return STATUS_OK;
}
