/* The process that makes a template; see maker.h. */
#include "vmm/template/maker.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jailer/privileges.h"
#include "vmm/base/clock.h"
#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/fdio.h"
#include "vmm/base/log.h"
#include "vmm/base/result.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/helper/helpers.h"
#include "vmm/jail/parent.h"
#include "vmm/process/ending.h"
#include "vmm/snapshot/dir.h"
#include "vmm/template/background.h"
#include "vmm/template/shape.h"
#include "vmm/template/template.h"
#include "vmm/vm/timeline.h"
#include "vmm/vm/vm.h"

#define MAKER_WAIT_MS 1000 /* from the start of the run, if its command runs then */
#define MAKER_WRITE_S 30   /* beside the time limit of the boot */
#define MAKER_LIMIT_S 300  /* where that is "none" */
#define MAKER_LOCK "template.lock"
#define RUN_FD BACKGROUND_FD /* the pipe from the run */

struct maker {
	const struct config *run; /* that of the run */
	const struct shape *shape;
	struct config_template_link *link;
	char *kernel, *initrd; /* whole paths, or NULL */
	struct image_cache cache;
	struct snapshot_dir dir;
	int lock, state, memory;
	int pipe[2]; /* from the run */
	bool fails;  /* the guest cannot become a template */
};

/* Waits for the run. Returns whether its command has started. */
static bool await_run(const struct maker *m)
{
	const uint64_t limit_ms = m->run->boot_timeout_ms == CONFIG_NO_LIMIT ? 1000ULL * MAKER_LIMIT_S :
									       m->run->boot_timeout_ms;
	const uint64_t end_ms = clock_now_ms() + limit_ms;
	struct pollfd fd = { .fd = RUN_FD };

	for (int wait_ms = MAKER_WAIT_MS; clock_now_ms() < end_ms; wait_ms *= 2)
		if (poll(&fd, 1, wait_ms) != 0 || atomic_load(&m->link->started))
			break;
	return atomic_load(&m->link->started);
}

/* The VM's drives have no sectors, and no two VMs can have one for writing. */
static int add_drive(struct config_drive *d, const struct config_drive *of, struct err *e)
{
	int fd = memfd_create("drive", MFD_CLOEXEC);

	*d = (struct config_drive){ .id = of->id,
				    .read_only = of->read_only,
				    .cache = of->overlay ? CONFIG_CACHE_UNSAFE : of->cache };
	if (fd < 0 || asprintf(&d->path, "/proc/self/fd/%d", fd) < 0)
		return err_sys(e, "make a drive");
	return 0;
}

/* A VM of that shape which becomes a template. */
static int make_config(struct config *c, const struct maker *m, struct err *e)
{
	static char word[] = "template", *words[] = { word };
	const struct config *run = m->run;

	config_init(c);
	c->kernel = m->kernel;
	c->initrd = m->initrd;
	c->append = run->append;
	c->cmdline = run->cmdline;
	c->entry = run->entry;
	c->cpus = run->cpus;
	c->mem = run->mem;
	c->io_engine = run->io_engine;
	c->seccomp = run->seccomp;
	c->boot_timeout_ms = run->boot_timeout_ms;
	c->log_level = LOG_LEVEL_ERROR;
	c->command.args = (struct config_list){ words, 1 };
	c->command.tty = CONFIG_TTY_OFF;
	c->template =
		(struct config_template){ .made = true, .state_fd = m->state, .memory_fd = m->memory, .link = m->link };
	for (unsigned i = 0; i < run->num_drives; i++)
		if (add_drive(&c->drive[c->num_drives++], &run->drive[i], e) < 0)
			return e->code;
	for (unsigned i = 0; i < run->num_nets; i++)
		c->net[c->num_nets++] = (struct config_net){
			.kind = CONFIG_NET_NOTHING, .id = run->net[i].id, .mtu = run->net[i].mtu, .fd = -1
		};
	return 0;
}

/* In a process of its own: vm_main runs once in one. Returns its exit status. */
static int run_vm(const struct maker *m, pid_t parent)
{
	static const struct ending_kind kind = { .command = true, .asked_ms = ENDING_ASKED_MS };
	static struct config c;
	static struct timeline timeline;
	static struct helpers helpers;
	static struct jail_parent jail_parent = { .helpers = &helpers, .tty_fd = -1, .vsock_fd = -1, .mounts_fd = -1 };
	struct err e;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		return STATUS_FAILED;
	timeline_init(&timeline);
	result_init();
	jail_parent.signal_fd = ending_setup(&kind, &e);
	if (jail_parent.signal_fd < 0 || make_config(&c, m, &e) < 0 || helpers_start(&helpers, &c, &e) < 0)
		return STATUS_FAILED;
	return vm_main(&c, &timeline, &jail_parent, NULL);
}

/* Boots the VM, which writes `state` and `memory`. */
static int make_files(struct maker *m, struct err *e)
{
	pid_t parent = getpid(), pid;
	int status;

	m->state = snapshot_dir_create(&m->dir, SNAPSHOT_STATE, 0, e);
	if (m->state < 0)
		return m->state;
	m->memory = snapshot_dir_create(&m->dir, SNAPSHOT_MEMORY, m->run->mem, e);
	if (m->memory < 0)
		return m->memory;
	pid = fork();
	if (pid == 0)
		_exit(run_vm(m, parent));
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return err_sys(e, "run the VM");
	if (!WIFEXITED(status) || WEXITSTATUS(status) != STATUS_OK) {
		/* Unless it is the host that failed, when the guest was ready. */
		m->fails = WIFEXITED(status) && !atomic_load(&m->link->waits);
		return err_set(e, -ECHILD, "the VM has not become a template");
	}
	if (snapshot_dir_sync(m->state, SNAPSHOT_STATE, e) < 0)
		return e->code;
	return snapshot_dir_sync(m->memory, SNAPSHOT_MEMORY, e);
}

static int write_shape(const struct maker *m, struct err *e)
{
	MF_CLOSE int fd = snapshot_dir_create(&m->dir, SNAPSHOT_SHAPE, 0, e);
	MF_FREE char *whole = NULL;
	struct stat state, memory;
	size_t len = m->shape->len;
	int r;

	if (fd < 0)
		return fd;
	if (!m->fails) {
		if (fstat(m->state, &state) < 0 || fstat(m->memory, &memory) < 0)
			return err_sys(e, "look at the files");
		whole = shape_file_text(m->shape, &state, &memory, &len);
		if (!whole)
			return err_set(e, -ENOMEM, "out of memory");
	}
	r = fdio_write_all(fd, whole ? whole : m->shape->text, len);
	return r < 0 ? err_neg(e, r, "write '%s'", SNAPSHOT_SHAPE) : snapshot_dir_sync(fd, SNAPSHOT_SHAPE, e);
}

static int make(struct maker *m, struct err *e)
{
	MF_FREE char *path = NULL;

	if (asprintf(&path, "%s/%s", m->cache.path, m->shape->name) < 0) {
		path = NULL;
		return err_set(e, -ENOMEM, "out of memory");
	}
	if (snapshot_dir_begin(&m->dir, path, e) < 0 || (make_files(m, e) < 0 && !m->fails) || write_shape(m, e) < 0 ||
	    snapshot_dir_commit(&m->dir, e) < 0)
		return e->code;
	return image_cache_keep(&m->cache, m->shape->name, m->run->kernel, e); /* not this one: it is locked */
}

/* Whether this process is the one that makes templates now. The lock ends with it. */
static bool take_lock(struct maker *m)
{
	m->lock = openat(m->cache.fd, MAKER_LOCK, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	return m->lock >= 0 && flock(m->lock, LOCK_EX | LOCK_NB) == 0;
}

static void work(void *ctx)
{
	struct maker *m = ctx;
	const uint64_t boot_ms = m->run->boot_timeout_ms;
	struct err e;

	m->kernel = realpath(m->run->kernel, NULL);
	m->initrd = m->run->initrd ? realpath(m->run->initrd, NULL) : NULL;
	if (!m->kernel || (m->run->initrd && !m->initrd) || !background_leave(m->pipe[0]) ||
	    image_cache_open(&m->cache, &e) < 0)
		_exit(STATUS_FAILED);
	privileges_clear_environment(); /* the run's, and read by now */
	if (!await_run(m))
		_exit(STATUS_FAILED);
	close(RUN_FD);
	background_yield();
	(void)alarm(boot_ms == CONFIG_NO_LIMIT ? MAKER_LIMIT_S : (unsigned)(boot_ms / 1000) + MAKER_WRITE_S);
	if (!take_lock(m) || template_look(&m->cache, m->shape, NULL) != TEMPLATE_MISSING)
		_exit(STATUS_OK);
	(void)make(m, &e); /* there is nobody to tell; the next run tries again */
	snapshot_dir_done(&m->dir);
	_exit(STATUS_OK);
}

void maker_begin(struct config *c, const struct shape *s)
{
	struct maker m = { .run = c, .shape = s, .cache.fd = -1, .dir = SNAPSHOT_DIR_INIT, .state = -1, .memory = -1 };

	m.link = background_link();
	if (!m.link)
		return;
	if (pipe2(m.pipe, O_CLOEXEC) < 0) {
		munmap(m.link, sizeof(*m.link));
		return;
	}
	background_start(work, &m);
	close(m.pipe[0]);
	c->template.link = m.link; /* m.pipe[1] stays open until this process ends, and those that it forks */
}
