/*
 * `mayfly bench`: from the command line to the command lines of the measured processes, and to the files
 * of the results. vmm/bench measures.
 */
#include "vmm/cmd/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/parse.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"
#include "vmm/bench/bench_report.h"
#include "vmm/cmd/words.h"
#include "vmm/config/config.h"
#include "vmm/process/ending.h"
#include "vmm/snapshot/dir.h"

#define GRACE_MS 10000 /* from a run's own time limit until it is killed */
#define RUNS_DEFAULT 10
#define WARM_DEFAULT 1
#define VM_COMMAND "cat"    /* of the VM for `bench exec`: it ends when its stdin does */
#define BOOT_COMMAND "true" /* of `bench boot` with a root */
#define DIR_TEMPLATE "/tmp/mayfly-bench-XXXXXX"

struct bench_options {
	struct bench b;
	const char *csv, *json, *svg;
	const char *snapshot, *pool;
	struct words run;     /* options for `mayfly run` */
	struct words command; /* COMMAND */
};

static int set_number(unsigned *to, const char *text, unsigned min, unsigned max, struct err *e)
{
	uint64_t n;

	if (parse_u64(text, &n) < 0 || n < min || n > max)
		return err_set(e, -EINVAL, "must be a number from %u to %u", min, max);
	*to = (unsigned)n;
	return 0;
}

static int set_runs(void *target, const char *text, struct err *e)
{
	return set_number(&((struct bench_options *)target)->b.runs, text, 1, BENCH_RUNS_MAX, e);
}

static int set_warm(void *target, const char *text, struct err *e)
{
	return set_number(&((struct bench_options *)target)->b.warm, text, 0, BENCH_RUNS_MAX, e);
}

static int set_jobs(void *target, const char *text, struct err *e)
{
	return set_number(&((struct bench_options *)target)->b.jobs, text, 1, BENCH_JOBS_MAX, e);
}

static int set_cpus(void *target, const char *text, struct err *e)
{
	struct bench_options *o = target;

	o->b.pinned = true;
	return bench_parse_cpus(text, &o->b.cpus, e);
}

static int set_csv(void *target, const char *text, struct err *e)
{
	(void)e;
	((struct bench_options *)target)->csv = text;
	return 0;
}

static int set_json(void *target, const char *text, struct err *e)
{
	(void)e;
	((struct bench_options *)target)->json = text;
	return 0;
}

static int set_svg(void *target, const char *text, struct err *e)
{
	(void)e;
	((struct bench_options *)target)->svg = text;
	return 0;
}

static int set_pool(void *target, const char *text, struct err *e)
{
	struct bench_options *o = target;

	if (!*text)
		return err_set(e, -EINVAL, "must not be empty");
	o->pool = text;
	o->b.of_pool = true;
	return 0;
}

/* Then, of some kinds, the snapshot. */
static int add_operand(void *target, const char *text, struct err *e)
{
	struct bench_options *o = target;

	if (o->b.kind && o->b.kind->snapshot && !o->snapshot) {
		o->snapshot = text;
		return 0;
	}
	for (const struct bench_kind *k = bench_kinds; k->name; k++)
		if (!strcmp(k->name, text)) {
			o->b.kind = k;
			return k->snapshot; /* another operand follows */
		}
	return err_set(e, -EINVAL, "'%.60s' is not measured; try 'mayfly bench --help'", text);
}

static int add_argument(void *target, const char *text, struct err *e)
{
	return words_add(&((struct bench_options *)target)->command, text, e);
}

/* An option of `mayfly run`, for the measured processes. */
static int pass_option(void *target, const struct cli_option *o, const char *value, struct err *e)
{
	static const char *const not_here[] = { "detach", "dry-run", "result", "rm", "time", "timeline", "tty" };
	struct words *w = &((struct bench_options *)target)->run;

	for (size_t i = 0; i < MF_ARRAY_SIZE(not_here); i++)
		if (!strcmp(o->long_name, not_here[i]))
			return err_set(e, -EINVAL, "cannot be measured, or is used to measure");
	return words_add_option(w, o, value, e);
}

static const struct cli_option bench_options[] = {
	{ 'n', "runs", "N", "how many are measured; default: 10", .set = set_runs },
	{ 0, "warm", "N", "how many run first and are not counted; default: 1", .set = set_warm },
	{ 0, "jobs", "N", "how many run at once; default: 1", .set = set_jobs },
	{ 0, "pin", "CPUS", "run them on these CPUs: 0,2-3", .set = set_cpus },
	{ 0, "pool", "PATH", "of clone: VMs of the pool whose socket that is", .set = set_pool, .words = CLI_FILES },
	{ 0, "csv", "FILE", "write CSV, a row for each run", .set = set_csv },
	{ 0, "json", "FILE", "write all that is known as JSON", .set = set_json },
	{ 0, "svg", "FILE", "draw the distribution", .set = set_svg },
	{ 'h', "help", NULL, "this text", .set = NULL },
	{ 0 },
};

const struct cli_usage bench_usage = {
	.command = "bench",
	.synopsis =
		"boot|run|exec|restore DIR|clone DIR|clone --pool PATH [options] [options of run] [-- COMMAND [ARG...]]",
	.about = "Starts mayfly N times, each a process of its own, and prints how long each phase\n"
		 "took. boot: to the guest's first instruction, to PID 1, and to the end. run:\n"
		 "COMMAND in a new VM each time. exec: COMMAND in one VM, by mayfly exec. restore,\n"
		 "clone: a VM from the snapshot in DIR each time, with COMMAND; without, its guest has\n"
		 "to end by itself. clone --pool PATH: a VM that waits in a pool; DIR may be left out.\n"
		 "-n is the number of runs here: a network is --net. What COMMAND prints is lost.\n\n",
	.options = bench_options,
	.argument = add_argument,
	.operand = add_operand,
	.operands = "boot run exec restore clone",
	.passes = &cli_run_usage,
	.pass = pass_option,
};

/* `mayfly run` with the options, then with, and COMMAND. */
static int make_run(const struct bench_options *o, struct words *w, const char *with, const struct words *command,
		    struct err *e)
{
	if (words_add(w, "mayfly", e) < 0 || words_add(w, "run", e) < 0 || words_add_all(w, &o->run, e) < 0 ||
	    (with && words_add(w, with, e) < 0) || (command->num && words_add(w, "--", e) < 0))
		return e->code;
	return words_add_all(w, command, e);
}

/*
 * Reads the options, and a command if there is one, as `mayfly run` will: what is wrong is found before
 * anything is started. A root without a command gets one, with which the guest ends.
 */
static int read_run(const struct bench_options *o, struct words *command, struct config *c, struct err *e)
{
	static struct words probe;
	char *argv[WORDS_MAX + 1];

	if (make_run(o, &probe, NULL, command, e) < 0)
		return e->code;
	memcpy(argv, probe.word, sizeof(argv));
	config_init(c);
	if (cli_parse(&cli_run_usage, c, (int)probe.num - 1, argv + 1, e) < 0)
		return e->code;
	if (c->rootfs.path && !c->command.args.num &&
	    (words_add(command, BOOT_COMMAND, e) < 0 || config_set(c, "command", BOOT_COMMAND, e) < 0))
		return e->code;
	return config_check(c, e);
}

/* The command lines of a kind whose runs are VMs. */
static int plan_vms(struct bench_options *o, struct config *c, struct words *w, struct err *e)
{
	char timeline[64];

	if (read_run(o, &o->command, c, e) < 0 ||
	    (!c->timeout_ms && words_add(&o->run, "--timeout=" BENCH_LIMIT, e) < 0))
		return e->code;
	snprintf(timeline, sizeof(timeline), "--timeline=/dev/fd/%d", BENCH_TIMELINE);
	return make_run(o, w, timeline, &o->command, e);
}

/* The command lines of a kind whose VMs are of a snapshot. c: as the snapshot has it. */
static int plan_restores(struct bench_options *o, struct config *c, struct words *w, struct err *e)
{
	char timeline[64], path[PATH_MAX];

	config_init(c);
	snprintf(path, sizeof(path), "%s/" SNAPSHOT_CONFIG, o->snapshot);
	if (config_read_file(c, path, e) < 0)
		return err_wrap(e, "snapshot '%s'", o->snapshot);
	c->timeout_ms = 0; /* it was the source's */
	snprintf(timeline, sizeof(timeline), "--timeline=/dev/fd/%d", BENCH_TIMELINE);
	/* An option that is given comes later, and so holds. */
	if (words_add(w, "mayfly", e) < 0 || words_add(w, o->b.kind->name, e) < 0 ||
	    words_add(w, "--timeout=" BENCH_LIMIT, e) < 0 || words_add_all(w, &o->run, e) < 0 ||
	    words_add(w, timeline, e) < 0 || words_add(w, o->snapshot, e) < 0 ||
	    (o->command.num && words_add(w, "--", e) < 0))
		return e->code;
	return words_add_all(w, &o->command, e);
}

/* The command line of a claim. c: of the snapshot, if it is known. */
static int plan_claims(struct bench_options *o, struct config *c, struct words *w, struct err *e)
{
	char path[PATH_MAX];

	config_init(c);
	snprintf(path, sizeof(path), "%s/" SNAPSHOT_CONFIG, o->snapshot ? o->snapshot : "");
	if (o->snapshot && config_read_file(c, path, e) < 0)
		return err_wrap(e, "snapshot '%s'", o->snapshot);
	c->timeout_ms = 0; /* it was the source's */
	if (words_add(w, "mayfly", e) < 0 || words_add(w, "clone", e) < 0 || words_add(w, "--pool", e) < 0 ||
	    words_add(w, o->pool, e) < 0 || words_add(w, "--timeout=" BENCH_LIMIT, e) < 0 ||
	    words_add_all(w, &o->run, e) < 0 || (o->snapshot && words_add(w, o->snapshot, e) < 0) ||
	    (o->command.num && words_add(w, "--", e) < 0))
		return e->code;
	return words_add_all(w, &o->command, e);
}

/* The command lines of the VM, and of the `mayfly exec` in it. dir: a directory for the control socket. */
static int plan_exec(struct bench_options *o, struct config *c, const char *dir, struct words *vm, struct words *w,
		     struct err *e)
{
	static struct words cat;
	char control[128], text[160];

	if (words_add(&cat, VM_COMMAND, e) < 0 || read_run(o, &cat, c, e) < 0)
		return e->code;
	snprintf(control, sizeof(control), "%s/control", dir);
	snprintf(text, sizeof(text), "--control=%s", control);
	if (make_run(o, vm, c->control ? NULL : text, &cat, e) < 0 || words_add(w, "mayfly", e) < 0 ||
	    words_add(w, "exec", e) < 0 || words_add(w, "--wait=" BENCH_LIMIT, e) < 0 ||
	    words_add(w, "--timeout=" BENCH_LIMIT, e) < 0 || words_add(w, c->control ? c->control : control, e) < 0 ||
	    words_add(w, "--", e) < 0)
		return e->code;
	return words_add_all(w, &o->command, e);
}

/* Measures, with the command lines made. *ret_kernel is the guest's. */
static int measure(struct bench_options *o, const char *dir, char *kernel, size_t size, struct err *e)
{
	static struct words vm, w; /* the measurement keeps them */
	static struct config c;	   /* it is large */
	uint64_t limit_ms;
	int r = o->pool		     ? plan_claims(o, &c, &w, e) :
		o->b.kind->in_one_vm ? plan_exec(o, &c, dir, &vm, &w, e) :
		o->b.kind->snapshot  ? plan_restores(o, &c, &w, e) :
				       plan_vms(o, &c, &w, e);

	if (r < 0)
		return r;
	(void)parse_duration(BENCH_LIMIT, &limit_ms); /* it is one */
	if (c.timeout_ms && !o->b.kind->in_one_vm)
		limit_ms = c.timeout_ms;
	bench_kernel_version(c.kernel, kernel, size);
	o->b.limit_ms = limit_ms + GRACE_MS;
	o->b.argv = w.word;
	o->b.vm_argv = vm.word;
	o->b.progress = isatty(STDERR_FILENO);
	return bench_measure(&o->b, e);
}

typedef int bench_printer(const struct bench_report *r, FILE *out);

/* Writes a file of the results, if there is to be one. Returns 0 or -errno with e set. */
static int write_file(const struct bench_report *r, const char *path, bench_printer *print, struct err *e)
{
	FILE *out = path ? fopen(path, "we") : NULL;
	bool failed;

	if (!path)
		return 0;
	if (!out)
		return err_sys(e, "open '%s'", path);
	errno = 0;
	failed = print(r, out) < 0 || ferror(out);
	if (fclose(out) == EOF || failed)
		return err_set(e, errno ? -errno : -EIO, "write '%s': %s", path, strerror(errno ? errno : EIO));
	return 0;
}

static int write_all(const struct bench_options *o, const struct bench_report *r, struct err *e)
{
	if (bench_print(r, stdout) < 0 || cli_check_stdout(e) < 0)
		return e->code;
	if (write_file(r, o->csv, bench_print_csv, e) < 0 || write_file(r, o->json, bench_print_json, e) < 0)
		return e->code;
	return write_file(r, o->svg, bench_print_svg, e);
}

/* Measures and writes. After a failure it writes the runs before it. */
static int bench(struct bench_options *o, struct err *e)
{
	static struct bench_report report;
	char dir[] = DIR_TEMPLATE, kernel[sizeof(report.guest_kernel)] = "";
	struct err late;
	int r;

	if (o->b.kind->in_one_vm && !mkdtemp(dir))
		return err_sys(e, "make a directory below /tmp");
	r = measure(o, dir, kernel, sizeof(kernel), e);
	if (o->b.kind->in_one_vm)
		(void)rmdir(dir); /* the VM has removed its socket; else it is left */
	if (o->b.num) {
		if (bench_report_make(&report, &o->b) < 0)
			return err_set(e, -ENOMEM, "out of memory");
		memcpy(report.guest_kernel, kernel, sizeof(kernel));
		if (write_all(o, &report, r < 0 ? &late : e) < 0 && r >= 0)
			r = e->code;
	}
	bench_done(&o->b);
	return r;
}

int bench_command(int argc, char **argv)
{
	static struct bench_options o; /* large, so it is set here: the binary has no copy */
	struct err e;
	int r;

	o.b.runs = RUNS_DEFAULT;
	o.b.warm = WARM_DEFAULT;
	o.b.jobs = 1;
	r = cli_parse(&bench_usage, &o, argc, argv, &e);
	if (r > 0)
		return STATUS_OK;
	(void)setenv(CONFIG_BOOT_ENV, "cold", false); /* else the first run is another thing than the others */
	if (r == 0 && !o.b.kind)
		r = err_set(&e, -EINVAL,
			    "what is to be measured? boot, run, exec, restore or clone; try 'mayfly bench --help'");
	if (r == 0 && o.pool && strcmp(o.b.kind->name, "clone") != 0)
		r = err_set(&e, -EINVAL, "--pool: only a clone is of a pool; mayfly bench clone --pool PATH");
	if (r == 0 && o.b.kind->snapshot && !o.snapshot && !o.pool)
		r = err_set(&e, -EINVAL, "which snapshot? mayfly bench %s DIR", o.b.kind->name);
	if (r == 0 && o.b.kind->command && !o.command.num)
		r = err_set(&e, -EINVAL, "no COMMAND; try 'mayfly bench --help'");
	if (r == 0)
		r = bench(&o, &e);
	if (o.b.signal)
		return ending_status_of(-o.b.signal);
	if (r < 0) {
		err_wrap(&e, "bench");
		return report_err(&e);
	}
	return o.b.failed ? STATUS_FAILED : STATUS_OK;
}
