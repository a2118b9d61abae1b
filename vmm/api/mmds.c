/* Firecracker's MMDS; see mmds.h. */
#include "vmm/api/mmds.h"

#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/api/state.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define ADDRESS_DEFAULT "169.254.169.254"

/* Link-local addresses that are not reserved (RFC 3927 2.1). */
#define ADDRESS_MIN 0xa9fe0100U
#define ADDRESS_MAX 0xa9fefeffU

/* Keys in order, as Firecracker has them. */
static char *print(json_t *data)
{
	if (!data || json_is_null(data))
		return strdup("{}");
	return json_dumps(data, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
}

/* Once the VM has started, only a configured store is there. */
static bool is_ready(const struct api *a, bool has_data, struct api_answer *answer)
{
	bool ready = has_data && (a->state == API_NOT_STARTED || a->mmds.configured);

	if (!ready)
		api_answer_fault(answer, "MMDS error: The MMDS data store is not initialized.");
	return ready;
}

void api_get_mmds(struct api *a, const char *id, void *body, struct api_answer *answer)
{
	(void)id;
	(void)body;
	if (!is_ready(a, true, answer))
		return;
	answer->body = print(a->mmds.data);
	answer->status = answer->body ? 200 : 503;
}

/* Takes data over. */
static void replace(struct api *a, json_t *data, struct api_answer *answer)
{
	char *text = print(data);
	size_t len = text ? strlen(text) : 0;

	free(text);
	if (!text || len > a->mmds.limit) {
		json_decref(data);
		api_answer_fault(answer, "MMDS limit exceeded error: The MMDS patch request doesn't fit.");
		answer->status = text ? 413 : 503;
		return;
	}
	json_decref(a->mmds.data);
	a->mmds.data = data;
	api_answer_done(answer);
}

void api_put_mmds(struct api *a, const char *id, void *body, struct api_answer *answer)
{
	json_t **data = body;

	if (*id)
		api_answer_fault(answer, "Unrecognized PUT request path `%s`.", id);
	else if (is_ready(a, true, answer))
		replace(a, json_incref(*data), answer);
}

/* RFC 7396. Returns a new value, or NULL if memory is short. */
static json_t *merge(json_t *target, json_t *patch)
{
	json_t *result, *value;
	const char *key;

	if (!json_is_object(patch))
		return json_incref(patch);
	result = json_is_object(target) ? json_copy(target) : json_object();
	json_object_foreach(patch, key, value) {
		json_t *next = json_is_null(value) ? NULL : merge(json_object_get(result, key), value);

		if (!next && json_is_null(value))
			json_object_del(result, key);
		else if (json_object_set_new(result, key, next) < 0) {
			json_decref(result);
			return NULL;
		}
	}
	return result;
}

void api_patch_mmds(struct api *a, const char *id, void *body, struct api_answer *answer)
{
	json_t **patch = body;

	(void)id;
	if (is_ready(a, a->mmds.data, answer))
		replace(a, merge(a->mmds.data, *patch), answer);
}

static bool is_link_local(const char *text, bool *ret_valid)
{
	struct in_addr address = { 0 };

	*ret_valid = inet_pton(AF_INET, text, &address) == 1;
	return ntohl(address.s_addr) >= ADDRESS_MIN && ntohl(address.s_addr) <= ADDRESS_MAX;
}

/* The list and the address, as far as their types go. */
static bool check_types(const struct api_mmds *c, struct api_answer *answer)
{
	static const char prefix[] = "An error occurred when deserializing the json body of a request";
	bool valid = true;
	json_t *name;
	size_t i;

	if (!json_is_array(c->network_interfaces)) {
		api_answer_fault(answer, "%s: invalid type of `network_interfaces`: expected a sequence.", prefix);
		return false;
	}
	json_array_foreach(c->network_interfaces, i, name) {
		if (json_is_string(name))
			continue;
		api_answer_fault(answer, "%s: invalid type in `network_interfaces`: expected a string.", prefix);
		return false;
	}
	if (c->ipv4_address)
		(void)is_link_local(c->ipv4_address, &valid);
	if (!valid)
		api_answer_fault(answer, "%s: invalid IPv4 address syntax.", prefix);
	return valid;
}

static bool check_config(struct api *a, const struct api_mmds *c, struct api_answer *answer)
{
	bool valid;
	json_t *name;
	size_t i;

	if (!json_array_size(c->network_interfaces)) {
		api_answer_fault(answer, "MMMDS config error: The list of network interface IDs that allow forwarding "
					 "MMDS requests is empty.");
		return false;
	}
	if (c->ipv4_address && !is_link_local(c->ipv4_address, &valid)) {
		api_answer_fault(answer, "MMMDS config error: The MMDS IPv4 address is not link local.");
		return false;
	}
	json_array_foreach(c->network_interfaces, i, name) {
		if (api_find_net(a, json_string_value(name)))
			continue;
		api_answer_fault(answer, "MMMDS config error: The list of network interface IDs provided contains at "
					 "least one ID that does not correspond to any existing network interface.");
		return false;
	}
	return true;
}

void api_put_mmds_config(struct api *a, const char *id, void *body, struct api_answer *answer)
{
	struct api_mmds *c = body;

	(void)id;
	if (!check_types(c, answer))
		return;
	answer->deprecated = c->version == API_MMDS_V1;
	if (a->state != API_NOT_STARTED) {
		api_answer_fault(answer, "The requested operation is not supported after starting the microVM.");
		return;
	}
	a->configured = true; /* wrong or not, as in Firecracker */
	if (!check_config(a, c, answer))
		return;
	if (!c->ipv4_address)
		c->ipv4_address = strdup(ADDRESS_DEFAULT);
	api_done(&api_mmds, &a->mmds.config);
	a->mmds.config = *c;
	memset(c, 0, sizeof(*c));
	a->mmds.configured = true;
	api_answer_done(answer);
}

int api_load_metadata(struct api *a, const char *path, struct err *e)
{
	struct api_answer answer = { 0 };
	json_t *data;

	if (api_load_json(&data, path, JSON_DECODE_ANY | JSON_ALLOW_NUL, e) < 0)
		return err_wrap(e, "metadata");
	replace(a, data, &answer);
	free(answer.body);
	return answer.status == 204 ? 0 : err_set(e, -E2BIG, "metadata '%s': more than %zu bytes", path, a->mmds.limit);
}

void mmds_listen(struct mmds *m, const char *uds_path)
{
	int len = snprintf(m->path, sizeof(m->path), "%s_%u", uds_path, MMDS_PORT);
	struct err e = { 0 };

	if (!m->data && !m->configured)
		return;
	if ((size_t)len >= sizeof(m->path))
		err_set(&e, -ENAMETOOLONG, "the path is too long");
	else if (unix_socket_listen(&m->socket, m->path, SOCK_STREAM, &e) == 0)
		return;
	unix_socket_done(&m->socket);
	m->socket = UNIXNAME_INIT;
	log_warn("MMDS: '%s': %s; continuing without it in the guest", m->path, e.text);
}

/* The reader is the vsock's thread. What it has not read stays in the socket, of which it gets EOF. */
void mmds_serve(struct mmds *m)
{
	MF_CLOSE int fd = -1;
	MF_FREE char *text = NULL;
	struct iovec iov;
	const struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

	fd = m->socket.fd < 0 ? -1 : accept4(m->socket.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return;
	text = print(m->data);
	if (!text)
		return;
	iov = (struct iovec){ .iov_base = text, .iov_len = strlen(text) };
	if (iov.iov_len > MMDS_GUEST_MAX)
		return;
	(void)sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL); /* a guest that has gone wants nothing */
}

void mmds_done(struct mmds *m)
{
	json_decref(m->data);
	api_done(&api_mmds, &m->config);
	unix_socket_done(&m->socket);
	*m = (struct mmds)MMDS_INIT;
}
