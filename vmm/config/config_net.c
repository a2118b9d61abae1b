/* Network interfaces in the configuration: their types of values, and their checks. See config_field.h. */
#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/parse.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/config/config_field.h"
#include "vmm/config/config_parts.h"
#include "vmm/config/config_publish.h"

#define STRING (1U << JSON_STRING)
#define INTEGER (1U << JSON_INTEGER)
#define BOOLEAN (1U << JSON_TRUE | 1U << JSON_FALSE)
#define ARRAY (1U << JSON_ARRAY)

static int set_kind(struct config_net *n, enum config_net_kind kind, struct err *e)
{
	if (n->kind != CONFIG_NET_UNSET)
		return err_set(e, -EINVAL, "an interface is one of tap, fd and user");
	n->kind = kind;
	return 0;
}

static int set_tap(void *object, const struct config_field *f, const char *text, struct err *e)
{
	size_t len = strlen(text);

	/*
	 * The names that Linux accepts, without '%', which Linux would replace by a
	 * number.
	 */
	if (len < 1 || len >= IFNAMSIZ || strpbrk(text, "/: \t\n%") || !strcmp(text, ".") || !strcmp(text, ".."))
		return err_set(e, -EINVAL, "must be the name of a tap, 1 to %d characters", IFNAMSIZ - 1);
	if (set_kind(object, CONFIG_NET_TAP, e) < 0)
		return e->code;
	return config_copy_text(config_at(object, f), text, IFNAMSIZ - 1, e);
}

const struct config_type config_type_tap = {
	.json = STRING, .set = set_tap, .print = config_print_text, .done = config_free_text
};

static int set_fd(void *object, const struct config_field *f, const char *text, struct err *e)
{
	uint64_t fd;

	if (parse_u64(text, &fd) < 0 || fd <= STDERR_FILENO || fd > INT_MAX)
		return err_set(e, -EINVAL, "must be the number of an inherited file descriptor, 3 or more");
	*(int *)config_at(object, f) = (int)fd;
	return set_kind(object, CONFIG_NET_FD, e);
}

static bool print_fd(const void *object, const struct config_field *f, json_t *to)
{
	const struct config_net *n = object;

	return n->kind != CONFIG_NET_FD || config_put(to, f->key, json_integer(n->fd));
}

const struct config_type config_type_fd = { .json = INTEGER, .set = set_fd, .print = print_fd };

static int set_user(void *object, const struct config_field *f, const char *text, struct err *e)
{
	bool user = false;

	(void)f; /* it is the kind of the interface */
	if (config_copy_bool(&user, text, e) < 0)
		return e->code;
	return user ? set_kind(object, CONFIG_NET_USER, e) : 0;
}

static bool print_user(const void *object, const struct config_field *f, json_t *to)
{
	const struct config_net *n = object;

	return n->kind != CONFIG_NET_USER || config_put(to, f->key, json_true());
}

const struct config_type config_type_user_net = {
	.json = BOOLEAN, .value = CONFIG_FLAG, .set = set_user, .print = print_user
};

static int set_mac(void *object, const struct config_field *f, const char *text, struct err *e)
{
	static const uint8_t zero[NET_MAC_LEN];
	struct config_net *n = object;
	uint8_t mac[NET_MAC_LEN];
	int end = 0;

	(void)f; /* two members */
	if (strlen(text) != 17 || strspn(text, "0123456789abcdefABCDEF:") != 17 ||
	    sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4], &mac[5],
		   &end) != NET_MAC_LEN ||
	    end != 17)
		return err_set(e, -EINVAL, "must be six bytes such as 02:00:00:00:00:01");
	if (mac[0] & 1 || !memcmp(mac, zero, sizeof(mac)))
		return err_set(e, -EINVAL, "must be the address of one station: not a multicast address, not zero");
	memcpy(n->mac, mac, sizeof(mac));
	n->has_mac = true;
	return 0;
}

static bool print_mac(const void *object, const struct config_field *f, json_t *to)
{
	const struct config_net *n = object;
	const uint8_t *m = n->mac;

	return !n->has_mac ||
	       config_put(to, f->key,
			  json_sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]));
}

const struct config_type config_type_mac = { .json = STRING, .set = set_mac, .print = print_mac };

static int add_forward(struct config_net *n, bool udp, const char *text, struct err *e)
{
	struct config_forward f;

	if (config_forward_parse(&f, udp, text, e) < 0)
		return e->code;
	return config_forward_add(n, &f, text, e);
}

static int add_tcp(void *object, const struct config_field *f, const char *text, struct err *e)
{
	(void)f; /* one of an array, which both protocols share */
	return add_forward(object, false, text, e);
}

static int add_udp(void *object, const struct config_field *f, const char *text, struct err *e)
{
	(void)f; /* one of an array, which both protocols share */
	return add_forward(object, true, text, e);
}

static bool print_forwards(const struct config_net *n, const struct config_field *f, bool udp, json_t *to)
{
	char *ports[CONFIG_FORWARDS_MAX];
	unsigned num = 0;

	for (unsigned i = 0; i < n->num_forwards; i++) {
		if (n->forward[i].udp == udp && !n->forward[i].published)
			ports[num++] = n->forward[i].text;
	}
	return n->kind != CONFIG_NET_USER || config_put(to, f->key, config_strings(ports, num));
}

static bool print_tcp(const void *object, const struct config_field *f, json_t *to)
{
	return print_forwards(object, f, false, to);
}

static bool print_udp(const void *object, const struct config_field *f, json_t *to)
{
	return print_forwards(object, f, true, to);
}

const struct config_type config_type_tcp = { .json = ARRAY, .value = CONFIG_MANY, .set = add_tcp, .print = print_tcp };
const struct config_type config_type_udp = { .json = ARRAY, .value = CONFIG_MANY, .set = add_udp, .print = print_udp };

bool config_is_address(int family, const char *text)
{
	struct in6_addr addr;

	return inet_pton(family, text, &addr) == 1;
}

static int check_prefix(int family, unsigned max, const char *example, const char *text, struct err *e)
{
	MF_FREE char *address = strdup(text);
	char *slash = address ? strchr(address, '/') : NULL;
	uint64_t prefix = 0;

	if (!address)
		return err_sys(e, "copy it");
	if (slash)
		*slash = '\0';
	if (!slash || !config_is_address(family, address) || parse_u64(slash + 1, &prefix) < 0 || prefix < 1 ||
	    prefix > max)
		return err_set(e, -EINVAL, "must be an IPv%d address with its prefix, such as %s",
			       family == AF_INET ? 4 : 6, example);
	return 0;
}

int config_check_ip(const char *text, const struct config_field *f, struct err *e)
{
	(void)f; /* none is longer */
	return check_prefix(AF_INET, 32, "10.0.0.2/24", text, e);
}

int config_check_ip6(const char *text, const struct config_field *f, struct err *e)
{
	(void)f; /* none is longer */
	return check_prefix(AF_INET6, 128, "fd00::2/64", text, e);
}

int config_check_ipv4(const char *text, const struct config_field *f, struct err *e)
{
	(void)f; /* none is longer */
	return config_is_address(AF_INET, text) ? 0 : err_set(e, -EINVAL, "must be an IPv4 address, such as 10.0.0.1");
}

int config_check_ipv6(const char *text, const struct config_field *f, struct err *e)
{
	(void)f; /* none is longer */
	return config_is_address(AF_INET6, text) ? 0 : err_set(e, -EINVAL, "must be an IPv6 address, such as fd00::1");
}

int config_check_address(const char *text, const struct config_field *f, struct err *e)
{
	(void)f; /* none is longer */
	return config_is_address(AF_INET, text) || config_is_address(AF_INET6, text) ?
		       0 :
		       err_set(e, -EINVAL, "must be an IPv4 or IPv6 address, such as 10.0.0.1 or fd00::1");
}

static void net_done(struct config_net *n)
{
	for (unsigned i = 0; i < n->num_forwards; i++)
		free(n->forward[i].text);
	config_fields_done(config_net_fields, n);
	*n = (struct config_net){ .fd = -1 };
}

static void *begin_net(struct config *c, struct err *e)
{
	if (c->num_nets == CONFIG_NETS_MAX) {
		err_set(e, -EINVAL, "there can be at most %d network interfaces", CONFIG_NETS_MAX);
		return NULL;
	}
	net_done(&c->net[c->num_nets]); /* one that was refused */
	return &c->net[c->num_nets];
}

static int end_net(struct config *c, struct err *e)
{
	struct config_net *n = &c->net[c->num_nets];

	if (n->kind == CONFIG_NET_UNSET)
		return err_set(e, -EINVAL, "needs one of tap, fd and user");
	if (n->num_forwards && n->kind != CONFIG_NET_USER)
		return err_set(e, -EINVAL, "only user networks forward ports");
	if (n->host.num && n->kind != CONFIG_NET_USER)
		return err_set(e, -EINVAL,
			       "only user networks have ports of the host; a tap reaches all that listen on it");
	if (n->kind != CONFIG_NET_USER && ((n->gateway && !n->ip) || (n->gateway6 && !n->ip6)))
		return err_set(e, -EINVAL, "gw needs an ip, and gw6 an ip6");
	if (!n->id && asprintf(&n->id, "net%u", c->num_nets) < 0) {
		n->id = NULL; /* asprintf leaves it undefined */
		return err_set(e, -ENOMEM, "out of memory");
	}
	c->num_nets++;
	return 0;
}

/* What other programs' options look like: a network by its name, and a port without more. */
static int check_spec(const char *spec, struct err *e)
{
	size_t len = strcspn(spec, ",");
	bool host = false; /* host=1,2 is a list */

	if (len && strspn(spec, "abcdefghijklmnopqrstuvwxyz0123456789_-") == len &&
	    !config_has_spec(config_net_fields, spec))
		return err_set(e, -EINVAL, "unknown network '%.*s'; use user, tap=NAME, fd=N or none", (int)len, spec);
	for (; spec[len]; len += strcspn(spec + len, ",")) {
		len++;
		if (spec[len] < '0' || spec[len] > '9')
			host = !strncmp(spec + len, "host=", 5);
		else if (!host)
			return err_set(e, -EINVAL, "'%.*s' has no name; a port is published by -p HOST:GUEST",
				       (int)strcspn(spec + len, ","), spec + len);
	}
	return 0;
}

static int add_net(void *object, const struct config_field *f, const char *spec, struct err *e)
{
	struct config *c = object;
	struct config_net *n;

	(void)f; /* one of an array */
	c->no_net = !strcmp(spec, "none");
	if (c->no_net) {
		c->num_nets = 0;
		return 0;
	}
	if (check_spec(spec, e) < 0)
		return e->code;
	n = begin_net(c, e);
	if (!n || config_take_spec(config_net_fields, n, spec, "none", e) < 0)
		return e->code;
	return end_net(c, e);
}

static int read_nets(void *object, const struct config_field *f, json_t *list, const char *prefix, struct err *e)
{
	(void)prefix; /* they are at the top */
	return config_read_list(f, config_net_fields, begin_net, end_net, object, list, e);
}

static bool print_nets(const void *object, const struct config_field *f, json_t *to)
{
	const struct config *c = object;

	return config_print_list(f, config_net_fields, c->net, sizeof(c->net[0]), c->num_nets, to);
}

static void free_nets(void *object, const struct config_field *f)
{
	struct config *c = object;

	(void)f; /* All of them: the one after the last may be half described. */
	for (unsigned i = 0; i < CONFIG_NETS_MAX; i++)
		net_done(&c->net[i]);
}

const struct config_type config_type_nets = {
	.json = ARRAY, .set = add_net, .read = read_nets, .print = print_nets, .done = free_nets
};

static int check_nets(const struct config *c, struct err *e)
{
	for (unsigned i = 0; i < c->num_nets; i++) {
		for (unsigned j = 0; j < i; j++) {
			const struct config_net *a = &c->net[j], *b = &c->net[i];

			if (!strcmp(a->id, b->id))
				return err_set(e, -EINVAL, "two network interfaces have the same id '%s'", a->id);
			if (a->kind == CONFIG_NET_FD && b->kind == CONFIG_NET_FD && a->fd == b->fd)
				return err_set(e, -EINVAL, "nets '%s' and '%s' have the same fd %d", a->id, b->id,
					       a->fd);
			if (a->has_mac && b->has_mac && !memcmp(a->mac, b->mac, sizeof(a->mac)))
				return err_set(e, -EINVAL, "nets '%s' and '%s' have the same mac", a->id, b->id);
		}
	}
	return 0;
}

int config_complete_nets(struct config *c, struct err *e)
{
	if (config_complete_publish(c, e) < 0 || check_nets(c, e) < 0)
		return e->code;
	for (unsigned i = 0; i < c->num_nets; i++) {
		struct config_net *n = &c->net[i];

		if ((n->ip || n->ip6 || n->dns) && n->kind != CONFIG_NET_USER && !c->command.args.num)
			return err_set(e, -EINVAL,
				       "net '%s': its ip, ip6 and dns need a command: mayfly run ... -- COMMAND",
				       n->id);
		if (n->kind == CONFIG_NET_USER && config_complete_user_net(n, c, e) < 0)
			return err_wrap(e, "net '%s'", n->id);
	}
	return config_check_walls(c, e) < 0 ? e->code : config_complete_names(c, e);
}
