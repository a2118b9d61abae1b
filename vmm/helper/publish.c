/* Ports of the host, before passt listens on them; see publish.h. */
#include "vmm/helper/publish.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"

static int family_of(const struct config_forward *f)
{
	return strchr(f->address, ':') ? AF_INET6 : AF_INET;
}

static const char *protocol_of(const struct config_forward *f)
{
	return f->udp ? "UDP" : "TCP";
}

/* A socket bound to a port of f's address, 0 for any; or -errno. */
static int bind_port(const struct config_forward *f, int family, unsigned port)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
	const bool is_ipv4 = family == AF_INET;
	MF_CLOSE int fd = socket(family, (f->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
	const int on = 1;
	int r;

	if (fd < 0)
		return -errno;
	if (*f->address) /* checked */
		(void)inet_pton(family, f->address, is_ipv4 ? (void *)&in.sin_addr : (void *)&in6.sin6_addr);
	/* As passt does it. Without these, what is free is refused, which would be seen. */
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (!is_ipv4)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	r = is_ipv4 ? bind(fd, (const struct sockaddr *)&in, sizeof(in)) :
		      bind(fd, (const struct sockaddr *)&in6, sizeof(in6));
	/* Two may be bound to a TCP port, of which one listens. */
	if (r == 0 && !f->udp)
		r = listen(fd, 1);
	return r < 0 ? -errno : mf_take_fd(&fd);
}

/* Whether passt can bind it for family; so it can if this host has not that family. Returns 0 or -errno. */
static int try_port(const struct config_forward *f, int family, unsigned port)
{
	MF_CLOSE int fd = bind_port(f, family, port);

	return fd == -EADDRINUSE || fd == -EACCES || (fd == -EADDRNOTAVAIL && *f->address) ? fd : 0;
}

static int check_forward(const struct config_forward *f, struct err *e)
{
	const int family = family_of(f);

	for (unsigned port = f->host; port < f->host + f->num; port++) {
		int r = try_port(f, family, port);

		if (!r && !*f->address)
			r = try_port(f, AF_INET6, port);
		if (r == -EACCES)
			return err_set(e, r,
				       "%s port %u of the host (%s): ports below 1024 are for root; use a higher one, or "
				       "allow it with: sysctl -w net.ipv4.ip_unprivileged_port_start=%u",
				       protocol_of(f), port, f->text, port);
		if (r == -EADDRNOTAVAIL)
			return err_set(e, r, "%s port %u of the host (%s): %s is no address of this host",
				       protocol_of(f), port, f->text, f->address);
		if (r < 0)
			return err_neg(e, r, "%s port %u of the host (%s)", protocol_of(f), port, f->text);
	}
	return 0;
}

int publish_check(const struct config_net *n, struct err *e)
{
	for (unsigned i = 0; i < n->num_forwards; i++) {
		if (check_forward(&n->forward[i], e) < 0)
			return e->code;
	}
	return 0;
}

/* Leaves the socket of the port in *ret_fd, so that the next one gets another port. */
static int pick(struct config_forward *f, int *ret_fd, struct err *e)
{
	struct sockaddr_in6 addr; /* as sockaddr_in, it has the port in the same place */
	socklen_t len = sizeof(addr);
	const bool in_brackets = family_of(f) == AF_INET6;

	*ret_fd = bind_port(f, family_of(f), 0);
	if (*ret_fd < 0)
		return err_neg(e, *ret_fd, "publish '%s': find a free port", f->text);
	if (getsockname(*ret_fd, (struct sockaddr *)&addr, &len) < 0)
		return err_sys(e, "publish '%s': find a free port", f->text);
	f->host = ntohs(addr.sin6_port);
	report_line("%s%s%s:%u is %s port %u of the guest", in_brackets ? "[" : "", f->address, in_brackets ? "]" : "",
		    f->host, protocol_of(f), f->guest);
	return 0;
}

int publish_pick(struct config *c, struct err *e)
{
	int fds[CONFIG_NETS_MAX * CONFIG_FORWARDS_MAX];
	unsigned num = 0;
	int r = 0;

	for (unsigned i = 0; i < c->num_nets; i++) {
		for (unsigned j = 0; !r && j < c->net[i].num_forwards; j++) {
			if (!c->net[i].forward[j].host)
				r = pick(&c->net[i].forward[j], &fds[num++], e);
		}
	}
	while (num) {
		if (fds[--num] >= 0)
			close(fds[num]);
	}
	return r;
}

static void put_range(char *text, unsigned first, unsigned num)
{
	if (num > 1)
		snprintf(text, 12, "%u-%u", first, first + num - 1);
	else
		snprintf(text, 12, "%u", first);
}

void publish_argument(char text[PUBLISH_ARGUMENT_MAX], const struct config_forward *f)
{
	char host[12], guest[12];

	put_range(host, f->host, f->num);
	put_range(guest, f->guest, f->num);
	snprintf(text, PUBLISH_ARGUMENT_MAX, "%s%s%s:%s", f->address, *f->address ? "/" : "", host, guest);
}
