/* A claim becomes part of the configuration of a member; see member_claim.h. */
#include "vmm/cmd/member_claim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/err.h"
#include "vmm/base/fdstore.h"
#include "vmm/base/log.h"
#include "vmm/base/unix_socket.h"
#include "vmm/base/util.h"
#include "vmm/cmd/restore.h"
#include "vmm/cmd/words.h"
#include "vmm/config/config.h"
#include "vmm/jail/claim_net.h"
#include "vmm/pool/claim.h"
#include "vmm/process/ending.h"

/* The place of drive d in the claim, or -1. Each of them is awaited, since their numbers are the same. */
static int find_drive(const struct pool_claim *claim, const struct config_drive *d)
{
	char **word = pool_claim_part(claim, POOL_DRIVES);
	const size_t len = strlen(d->id);

	for (unsigned i = 0; i < claim->num[POOL_DRIVES]; i++)
		if (!strncmp(word[i], d->id, len) && word[i][len] == '=')
			return (int)i;
	return -1;
}

/* The flags that the drive is opened with (virtio/image.c). */
static int drive_flags(const struct config_drive *d)
{
	return (d->read_only || d->overlay ? O_RDONLY : O_RDWR) | (d->direct ? O_DIRECT : 0);
}

/* A client does not know which drives are only read: it has opened each for writing, if it could. */
static int check_drive(const struct config_drive *d, int *fd, struct err *e)
{
	const int want = drive_flags(d) & O_ACCMODE, mode = fcntl(*fd, F_GETFL) & O_ACCMODE;
	char path[32];
	int again;

	if (mode != want && mode != O_RDWR)
		return err_set(e, -EBADF, "drive '%s': the client has not opened it for writing", d->id);
	if (mode != want) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", *fd);
		again = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
		if (again < 0)
			return err_sys(e, "drive '%s': open it for reading", d->id);
		close(*fd);
		*fd = again;
	}
	if (d->direct && fcntl(*fd, F_SETFL, O_DIRECT) < 0)
		return err_sys(e, "drive '%s': direct I/O", d->id);
	return 0;
}

static int check_drives(const struct config *c, struct pool_claim *claim, struct err *e)
{
	unsigned awaited = 0;

	for (unsigned i = 0; i < c->num_drives; i++)
		awaited += c->drive[i].awaited;
	if (claim->num[POOL_DRIVES] != awaited)
		return err_set(e, -EINVAL, "a client of this pool brings %u drives (-d ID=PATH), and not %u", awaited,
			       claim->num[POOL_DRIVES]);
	for (unsigned i = 0; i < c->num_drives; i++) {
		const struct config_drive *d = &c->drive[i];
		int at = d->awaited ? find_drive(claim, d) : -1;

		if (d->awaited && at < 0)
			return err_set(e, -EINVAL, "drive '%s': the client has to bring it (-d %s=PATH)", d->id, d->id);
		if (at >= 0 && check_drive(d, &claim->fd[POOL_STREAMS + at], e) < 0)
			return e->code;
	}
	return 0;
}

/* The guest's interfaces that are the client's, in their order: those behind the pool's. */
static unsigned num_awaited(const struct config *c)
{
	unsigned num = 0;

	for (unsigned i = 0; i < c->num_nets; i++)
		num += c->net[i].awaited;
	return num;
}

static int check_devices(const struct config *c, const struct pool_claim *claim, struct err *e)
{
	char **vsock = pool_claim_part(claim, POOL_VSOCK);

	if (claim->num[POOL_NETS] != num_awaited(c))
		return err_set(e, -EINVAL,
			       "a client of this pool brings %u network interfaces (--net tap=NAME), and not %u",
			       num_awaited(c), claim->num[POOL_NETS]);
	if (c->vsock.awaited && !claim->num[POOL_VSOCK])
		return err_set(e, -EINVAL, "vsock: the client has to bring it (--vsock PATH)");
	if (claim->num[POOL_VSOCK] && !config_has_vsock(c))
		return err_set(e, -EINVAL, "vsock: the snapshot's guest has none");
	if (claim->num[POOL_VSOCK] && c->pool_runs && strstr(*vsock, ",cid="))
		return err_set(e, -EINVAL, "vsock: its VMs run already, so they keep their cid");
	return 0;
}

int member_claim_check(const struct config *c, struct pool_claim *claim, char *const *shared, unsigned num,
		       struct err *e)
{
	const char *other = pool_claim_differs(claim, POOL_SHARED, shared, num);
	char **option = pool_claim_part(claim, POOL_OPTIONS);
	char own[POOL_IDENTITY_MAX];

	if (claim->num_fds != POOL_STREAMS + pool_claim_files(claim))
		return err_set(e, -EPROTO, "a claim of %u files with %u descriptors", pool_claim_files(claim),
			       claim->num_fds);
	for (unsigned i = 0; i < claim->num[POOL_OPTIONS]; i++)
		if (pool_whose_option(option[i]) != POOL_OF_CLAIM)
			return err_set(e, -EPROTO, "'%.60s' is no option of a claim", option[i]);
	if (other)
		return err_set(e, -EINVAL, "the pool was not started with %.100s", other);
	if (c->pool_runs && (claim->extras & POOL_COLD || !claim->num[POOL_COMMAND]))
		return err_set(e, -EINVAL, "its VMs run already, " POOL_RUNS_TEXT);
	if (claim->num[POOL_FROM] &&
	    (pool_identity(own, c->pool) < 0 || strcmp(own, pool_claim_part(claim, POOL_FROM)[0]) != 0))
		return err_set(e, -EINVAL, "the pool is of another snapshot, '%s'", c->pool);
	return check_drives(c, claim, e) < 0 ? e->code : check_devices(c, claim, e);
}

/* option: before each word, or NULL. */
static int put_part(struct words *w, const struct pool_claim *claim, enum pool_part part, const char *option,
		    struct err *e)
{
	char **word = pool_claim_part(claim, part);
	int r = 0;

	for (unsigned i = 0; i < claim->num[part] && !r; i++) {
		if (option)
			r = words_add(w, option, e);
		if (!r)
			r = words_add(w, word[i], e);
	}
	return r;
}

int member_claim_words(struct words *w, const struct pool_claim *claim, const char *dir, struct err *e)
{
	int r = put_part(w, claim, POOL_OPTIONS, NULL, e);

	if (!r)
		r = put_part(w, claim, POOL_DRIVES, "--drive", e);
	if (!r)
		r = put_part(w, claim, POOL_NETS, "--net", e);
	if (!r)
		r = put_part(w, claim, POOL_VSOCK, "--vsock", e);
	if (!r && dir)
		r = words_add(w, dir, e);
	if (!r && claim->num[POOL_COMMAND])
		r = words_add(w, "--", e);
	if (!r)
		r = put_part(w, claim, POOL_COMMAND, NULL, e);
	return r;
}

int member_claim_apply(struct config *c, const struct pool_claim *claim, struct err *e)
{
	static struct words w;
	const uint32_t cid = c->vsock.cid;

	for (int i = 0; i < POOL_STREAMS; i++)
		if (dup2(claim->fd[i], i) < 0)
			return err_sys(e, "take the client's streams");
	if (words_add(&w, "restore", e) < 0 || member_claim_words(&w, claim, NULL, e) < 0 ||
	    restore_claim(c, (int)w.num, w.word, e) < 0)
		return e->code;
	if (c->pool_runs)
		c->vsock.cid = cid; /* as the guest knows it */
	return 0;
}

/* The descriptor of the first interface; the others, and the vsock's, are behind it. */
static unsigned first_net(const struct pool_claim *claim)
{
	return POOL_STREAMS + claim->num[POOL_DRIVES];
}

int member_claim_vsock(const struct pool_claim *claim)
{
	return claim->num[POOL_VSOCK] ? claim->fd[first_net(claim) + claim->num[POOL_NETS]] : -1;
}

int member_claim_adopt(const struct config *c, const struct pool_claim *claim, struct unix_socket *vsock, struct err *e)
{
	unsigned next = first_net(claim);

	for (unsigned i = 0; i < c->num_nets; i++)
		if (c->net[i].awaited && claim_net_check(&c->net[i], claim->fd[next++], e) < 0)
			return e->code;
	if (claim->num[POOL_VSOCK] && unix_socket_adopt(vsock, claim->fd[next], c->vsock.path, SOCK_STREAM, e) < 0)
		return err_wrap(e, "vsock '%s'", c->vsock.path);
	return 0;
}

void member_claim_limit(const struct config *c, uint64_t *limit_ms)
{
	if (!c->timeout_ms)
		return;
	*limit_ms = clock_now_ms() + c->timeout_ms;
	ending_limit(*limit_ms);
}

static int store(const char *name, int how, int fd, struct err *e)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);

	return copy < 0 ? err_sys(e, "copy a descriptor") : fdstore_provide(name, how, copy, e);
}

static int store_net(struct config_net *n, int fd, struct err *e)
{
	if (n->kind == CONFIG_NET_TAP)
		return store(n->tap, FILES_TAP, fd, e);
	n->fd = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	return n->fd < 0 ? err_sys(e, "copy a descriptor") : 0;
}

int member_claim_store(struct config *c, const struct pool_claim *claim, struct err *e)
{
	unsigned next = first_net(claim);

	for (unsigned i = 0; i < c->num_drives; i++) {
		const struct config_drive *d = &c->drive[i];
		int at = d->awaited ? find_drive(claim, d) : -1;

		if (at >= 0 && store(d->path, drive_flags(d), claim->fd[POOL_STREAMS + at], e) < 0)
			return e->code;
	}
	for (unsigned i = 0; i < c->num_nets; i++)
		if (c->net[i].awaited && store_net(&c->net[i], claim->fd[next++], e) < 0)
			return e->code;
	if (claim->num[POOL_VSOCK] && store(c->vsock.path, FILES_LISTEN, claim->fd[next++], e) < 0)
		return e->code;
	if (claim->extras & POOL_LOG)
		log_setup(c->log_level, fcntl(claim->fd[next++], F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
	if (claim->extras & POOL_CONTROL && store(c->control, FILES_LISTEN, claim->fd[next], e) < 0)
		return e->code;
	fdstore_use();
	return 0;
}

/* All words of a part, and one more, or NULL. */
static int copy_part(struct pool_claim *to, const struct pool_claim *from, enum pool_part part, const char *more,
		     struct err *e)
{
	char **word = pool_claim_part(from, part);

	for (unsigned i = 0; i < from->num[part]; i++)
		if (pool_claim_add(to, part, word[i], e) < 0)
			return e->code;
	return more ? pool_claim_add(to, part, more, e) : 0;
}

int member_claim_pass(int fd, const struct config *c, const struct pool_claim *claim, int control_fd, struct err *e)
{
	char control[sizeof("--control=") + CONFIG_CONTROL_MAX];
	struct pool_claim more;
	int r;

	snprintf(control, sizeof(control), "--control=%s", c->control ? c->control : "");
	if (pool_claim_init(&more) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	r = copy_part(&more, claim, POOL_OPTIONS, c->control ? control : NULL, e);
	for (unsigned part = POOL_DRIVES; part < POOL_NUM_PARTS && !r; part++)
		r = copy_part(&more, claim, part, NULL, e);
	memcpy(more.fd, claim->fd, claim->num_fds * sizeof(more.fd[0]));
	more.num_fds = claim->num_fds;
	more.fd[more.num_fds++] = log_fd();
	more.extras = POOL_LOG;
	if (control_fd >= 0) {
		more.fd[more.num_fds++] = control_fd;
		more.extras |= POOL_CONTROL;
	}
	if (!r)
		r = pool_claim_send(fd, &more, e);
	more.num_fds = 0; /* they stay the caller's */
	pool_claim_done(&more);
	return r;
}
