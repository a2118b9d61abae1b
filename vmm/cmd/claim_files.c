/*
 * The files of a claim; see claim_files.h. The VM's process checks each descriptor: it cannot know who has sent them.
 */
#include "vmm/cmd/claim_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/jail/claim_net.h"

/* ID=PATH. The member sees to it that a drive that is only read cannot be written. */
static int open_drive(const char *text, struct err *e)
{
	const char *equals = strchr(text, '=');
	int fd;

	if (!equals || !equals[1])
		return err_set(e, -EINVAL, "must be ID=PATH");
	fd = open(equals + 1, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 && (errno == EACCES || errno == EROFS || errno == EPERM))
		fd = open(equals + 1, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	return fd < 0 ? err_sys(e, "open '%s'", equals + 1) : fd;
}

/* The option is read as that of `mayfly restore`. Static: a configuration is large, and there is one thread. */
static struct config *parse(const char *key, const char *text, struct err *e)
{
	static struct config c;

	config_done(&c);
	config_init(&c);
	return config_set(&c, key, text, e) < 0 ? NULL : &c;
}

static int open_net(const char *text, struct err *e)
{
	const struct config *c = parse("nets", text, e);

	return c ? claim_net_open(&c->net[0], e) : e->code;
}

/* The member has another working directory. *ret gets PATH[,cid=N] with a path that is absolute. */
static int whole_vsock(const char *text, char **ret, struct err *e)
{
	MF_FREE char *cwd = *text == '/' ? strdup("") : getcwd(NULL, 0);

	if (!cwd || asprintf(ret, "%s%s%s", cwd, *text == '/' ? "" : "/", text) < 0)
		return err_sys(e, "make its path absolute");
	return 0;
}

static int open_vsock(struct claim_files *f, const char *text, struct err *e)
{
	const struct config *c = parse("vsock", text, e);

	if (!c)
		return e->code;
	f->path = strdup(c->vsock.path);
	if (!f->path)
		return err_set(e, -ENOMEM, "out of memory");
	if (unix_socket_listen(&f->vsock, f->path, SOCK_STREAM, e) < 0)
		return err_wrap(e, "'%s'", f->path);
	return mf_take_fd(&f->vsock.fd);
}

static int add(struct pool_claim *c, enum pool_part part, const char *text, unsigned max, int fd, struct err *e)
{
	if (fd < 0)
		return fd;
	if (c->num[part] == max) {
		close(fd);
		return err_set(e, -E2BIG, "a claim has up to %u", max);
	}
	c->fd[c->num_fds++] = fd;
	return pool_claim_add(c, part, text, e);
}

static int add_vsock(struct claim_files *f, struct pool_claim *c, const char *text, struct err *e)
{
	MF_FREE char *whole = NULL;

	if (c->num[POOL_VSOCK])
		return err_set(e, -E2BIG, "a claim has one");
	if (whole_vsock(text, &whole, e) < 0)
		return e->code;
	return add(c, POOL_VSOCK, whole, 1, open_vsock(f, whole, e), e);
}

int claim_files_add(struct claim_files *f, struct pool_claim *c, enum pool_part part, const char *option, struct err *e)
{
	static const struct {
		enum pool_part part;
		const char *name;
	} options[] = { { POOL_DRIVES, "--drive" }, { POOL_NETS, "--net" }, { POOL_VSOCK, "--vsock" } };
	int r = 0;

	for (size_t i = 0; i < MF_ARRAY_SIZE(options); i++) {
		const size_t len = strlen(options[i].name);
		const char *text = option + len + 1;

		if (options[i].part != part || strncmp(option, options[i].name, len) != 0 || option[len] != '=')
			continue;
		if (part == POOL_DRIVES)
			r = add(c, part, text, POOL_DRIVES_MAX, open_drive(text, e), e);
		else if (part == POOL_NETS)
			r = add(c, part, text, POOL_NETS_MAX, open_net(text, e), e);
		else
			r = add_vsock(f, c, text, e);
		if (r < 0)
			return err_wrap(e, "%s", options[i].name);
	}
	return 0;
}

void claim_files_done(struct claim_files *f)
{
	unix_socket_remove(&f->vsock);
	free(mf_take_ptr(&f->path));
}
