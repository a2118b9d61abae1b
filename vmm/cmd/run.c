/* `mayfly run`: from the command line to a VM and its exit status. */
#include "vmm/cmd/run.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "jailer/mounts.h"
#include "vmm/base/clock.h"
#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/fdio.h"
#include "vmm/base/fdstore.h"
#include "vmm/base/log.h"
#include "vmm/base/report.h"
#include "vmm/base/result.h"
#include "vmm/base/util.h"
#include "vmm/cli/cli.h"
#include "vmm/cmd/detach.h"
#include "vmm/cmd/member.h"
#include "vmm/cmd/run_snapshot.h"
#include "vmm/config/config.h"
#include "vmm/core/ring.h"
#include "vmm/helper/helpers.h"
#include "vmm/helper/image_pack.h"
#include "vmm/helper/publish.h"
#include "vmm/jail/jail_group.h"
#include "vmm/jail/parent.h"
#include "vmm/jail/supervise.h"
#include "vmm/process/async_teardown.h"
#include "vmm/process/ending.h"
#include "vmm/process/notify.h"
#include "vmm/records/record.h"
#include "vmm/snapshot/chain.h"
#include "vmm/template/template.h"
#include "vmm/vm/timeline.h"
#include "vmm/vm/vm.h"
#include "vmm/vm/vm_state.h"

/*
 * Opens the log for appending: a file, or a device such as /dev/null or a terminal. A FIFO or a
 * socket is refused, because it could block or kill every thread that logs. Returns the fd or
 * -errno with e set.
 */
static int open_log(const char *path, struct err *e)
{
	MF_CLOSE int fd = -1;
	struct stat st;

	/* O_NONBLOCK: opening a FIFO must not block. */
	fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
	if (fd < 0)
		return err_sys(e, "log '%s'", path);
	if (fstat(fd, &st) < 0)
		return err_sys(e, "log '%s'", path);
	if (!S_ISREG(st.st_mode) && !S_ISCHR(st.st_mode))
		return err_set(e, -EINVAL, "log '%s': must be a file or a character device", path);
	if (fcntl(fd, F_SETFL, O_APPEND) < 0)
		return err_sys(e, "log '%s'", path);
	return mf_take_fd(&fd);
}

/*
 * The threads of devices log, so a pipe or terminal that nobody reads must not block them. Other
 * processes share the open file of stderr: it is opened again, non-blocking, for the log
 * alone. Returns the fd, or -1 to log to stderr itself.
 */
static int reopen_stderr(void)
{
	struct stat st;

	if (fstat(STDERR_FILENO, &st) < 0 || (!S_ISFIFO(st.st_mode) && !isatty(STDERR_FILENO)))
		return -1;
	return open("/proc/self/fd/2", O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
}

/* Opens the log as configured. It stays open: threads of the VM may log until the process ends. Returns the fd, or -errno with e set. */
static int choose_log(const struct config *c, struct err *e)
{
	int fd = -1;

	/* Compare the name: stderr may be a socket, which cannot be opened. */
	if (c->log_file && strcmp(c->log_file, "/dev/stderr") != 0) {
		fd = open_log(c->log_file, e);
		if (fd < 0)
			return fd;
	} else {
		fd = reopen_stderr();
	}
	return fd < 0 ? STDERR_FILENO : fd;
}

static int start_log(const struct config *c, struct err *e)
{
	int fd = choose_log(c, e);

	if (fd < 0)
		return fd;
	log_setup(c->log_level, member_log_fd(fd));
	return 0;
}

/* Opens the file of --timeline; *ret is -1 without that option. Returns 0 or -errno with e set. */
static int open_timeline(const struct config *c, struct timeline *timeline, int *ret, struct err *e)
{
	static struct timeline_about about;

	*ret = -1;
	if (!c->timeline_file)
		return 0;
	json_object_seed(0);	  /* reads /dev/urandom: the filter forbids that later */
	(void)uname(&about.host); /* cannot fail */
	about.kernel = c->kernel;
	timeline->about = &about;
	*ret = open(c->timeline_file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);
	return *ret < 0 ? err_sys(e, "timeline '%s'", c->timeline_file) : 0;
}

/*
 * Returns true if this process has to run the VM. Else the VM has run in another process, or could
 * not start; its exit status is in *ret_status.
 */
static bool run_enter(struct config *c, struct timeline *timeline, struct jail_parent *parent, int timeline_fd,
		      int *ret_status)
{
	int keep[JAIL_RUN_KEEP_MAX] = { log_fd(), timeline_fd, timeline->counter_fd, member_kept_fd() };
	const struct chain *chain = c->restore_chain;
	unsigned num = 4;
	struct err e;

	_Static_assert(4 + CHAIN_MAX <= JAIL_RUN_KEEP_MAX, "room for the files of a chain");

	notify_status("booting");
	if (publish_pick(c, &e) < 0 || run_snapshot_start(parent->helpers, c, &e) < 0 ||
	    helpers_start(parent->helpers, c, &e) < 0 ||
	    /* They are not the children of the process in the jail, which could not ask. */
	    (c->jail.on && helpers_await(parent->helpers, &e) < 0)) {
		helpers_end(parent->helpers);
		*ret_status = report_err(&e);
		return false;
	}
	if (!c->jail.on) {
		fdstore_use(); /* images of directories */
		return true;
	}
	for (unsigned i = 0; chain && i < chain->num; i++)
		keep[num++] = chain->layer[i].fd;
	if (!supervise(c, parent, keep, num, ret_status))
		return false;
	timeline_mark(timeline, TIMELINE_JAIL);
	return true;
}

/* Static: a signal handler uses it, and the VM. */
static struct record_writer run_record = RECORD_WRITER_INIT;

/* Notes how it ended, in the result and in the record. status: as vm_main has it. Returns 0, or -errno of the result. */
static int run_note_end(int status)
{
	int r;

	result_set(status == STATUS_TIMEOUT ? END_TIMEOUT : END_FAILED, -1, 0); /* if nothing else has ended it */
	r = result_end(status);
	record_end(&run_record, result_cause(), status);
	return r;
}

/* In a signal handler that ends the process. */
static void run_at_last(int status)
{
	(void)run_note_end(status); /* what fails here has no place to be reported */
	member_tell_end(status);
}

/* A VM without a name does without a record, where none can be made. */
static int run_begin_record(const struct config *c, struct err *e)
{
	if (record_begin(&run_record, c, e) < 0) {
		if (c->name || c->detach)
			return !c->name ? err_wrap(e, "detach") : err_wrap(e, "name '%s'", c->name);
		log_info("record: %s; continuing without, so `mayfly ps` does not show this VM", e->text);
	}
	if (c->ready_fd)
		run_record.ready_fd = c->ready_fd;
	return 0;
}

/* The log first, or messages would keep the caller's stderr open. */
static int run_begin_detached(const struct config *c, struct err *e)
{
	return run_begin_record(c, e) < 0 || detach_start_log(c, &run_record, e) < 0 ? e->code : 0;
}

static int run_config(struct config *c, struct timeline *timeline, struct jail_parent *parent)
{
	const struct ending_kind kind = { .command = c->command.args.num > 0, .asked_ms = ENDING_ASKED_MS };
	MF_CLOSE int timeline_fd = -1;
	struct err e;
	int status, packed;

	if (c->dry_run) {
		if (c->io_engine == LOOP_ENGINE_AUTO)
			c->io_engine = ring_engine_here();
		return config_print(c, stdout, &e) < 0 ? report_err(&e) : STATUS_OK;
	}
	ending_at_last(run_at_last);
	parent->signal_fd = ending_setup(&kind, &e);
	if (parent->signal_fd < 0 || (c->detach && run_begin_detached(c, &e) < 0) || start_log(c, &e) < 0 ||
	    (!c->detach && run_begin_record(c, &e) < 0) || open_timeline(c, timeline, &timeline_fd, &e) < 0)
		return report_err(&e);
	if (c->template.cold)
		log_debug("it boots: %s", c->template.cold);
	notify_open();
	if (c->timeout_ms) {
		parent->limit_ms = clock_now_ms() + c->timeout_ms;
		ending_limit(parent->limit_ms);
	}
	packed = image_pack_drives(c, &e);
	if (packed < 0)
		return report_err(&e);
	if (packed)
		timeline_mark(timeline, TIMELINE_PACK);
	if (c->time || c->timeline_file)
		timeline_count_instructions(timeline);
	if (!run_enter(c, timeline, parent, timeline_fd, &status))
		return status;
	status = vm_main(c, timeline, parent, NULL);
	if (c->time)
		timeline_print(timeline);
	if (timeline_fd >= 0) {
		int r = timeline_write(timeline, timeline_fd);

		if (r < 0)
			log_error("timeline '%s': %s; the guest has ended all the same", c->timeline_file,
				  strerror(-r));
		if (r < 0 && status == STATUS_OK)
			status = STATUS_FAILED;
	}
	log_tell_lost();
	return status;
}

/* The last that a run does. Returns its exit status. */
static int run_end(const struct config *c, int status)
{
	int r = run_note_end(status);

	if (r < 0)
		report_line("result '%s': %s", c->result_file, strerror(-r));
	if (r < 0 && status == STATUS_OK)
		status = STATUS_FAILED;
	member_tell_end(status);
	return status;
}

/* Whether it boots, or is a clone of a template. */
static int run_choose_boot(struct config *c, struct timeline *t, struct err *e)
{
	int r = !c->restore_state && !c->dry_run ? template_begin(c, e) : 0;

	t->from = c->template.used ? "template" : c->restore_state ? "snapshot" : NULL;
	return r;
}

/* The snapshot's files; or a template, whose maker is no part of a jail. */
static int run_open_sources(struct config *c, struct timeline *timeline, struct err *e)
{
	int r = c->restore_state && !c->dry_run ? vm_restore_check(c, e) : 0;

	return r < 0 ? r : run_choose_boot(c, timeline, e);
}

int run_vm(run_parse *parse, int argc, char **argv)
{
	/* Static and never freed: threads of the VM use them until the process ends. */
	static struct timeline timeline;
	static struct config c;
	static struct helpers helpers;
	static struct jail_group group;
	static struct jail_parent parent = { .helpers = &helpers,
					     .group = &group,
					     .signal_fd = -1,
					     .tty_fd = -1,
					     .vsock_fd = -1,
					     .mounts_fd = -1,
					     .record = &run_record };
	struct err e, late;
	int r;

	timeline_init(&timeline);	    /* first: it takes the time from the start to main() */
	(void)prctl(PR_SET_NAME, "mayfly"); /* one that `mayfly clone` has started by /proc/self/exe is "exe" */
	result_init();
	config_init(&c);
	r = parse(&c, argc, argv, &e);
	timeline_mark(&timeline, TIMELINE_CONFIG);
	if (r > 0)
		return STATUS_OK;
	if (r == 0 && c.jail.on)
		parent.mounts_fd = mounts_take(); /* before another process is started, which has no use for it */
	if (r == 0)
		r = member_begin(&c, &parent, choose_log, &e);
	/* First of all. But a VM in the background closes all files before it begins. */
	if (r == 0 && !c.detach)
		r = run_open_sources(&c, &timeline, &e);
	/* Before any other process is started, which has to leave that group, too. */
	if (r == 0 && c.jail.on && !c.dry_run)
		r = jail_group_enter(&group, &c.jail, &e);
	if (r == 0 && c.detach && !c.dry_run && !detach_fork(&c, parent.mounts_fd, &r))
		return r;
	if (r == 0 && c.detach)
		r = run_open_sources(&c, &timeline, &e);
	if (c.result_file && !c.dry_run && result_open(c.result_file, r < 0 ? &late : &e) < 0)
		r = -EINVAL;
	r = r < 0 ? report_err(&e) : run_config(&c, &timeline, &parent);
	/* An engine does not show the streams of a container that it does not have. */
	if (c.ready_fd)
		(void)fdio_write_all(c.ready_fd, result_message(), strlen(result_message()));
	if (group.base.dir) {
		ending_step("the control group", NULL);
		jail_group_remove(&group);
	}
	r = run_end(&c, r);
	async_teardown_start();
	return ending_status_of(r);
}

int run_command(int argc, char **argv)
{
	return run_vm(cli_parse_run, argc, argv);
}
