/* The life of the API: the server, the requests one at a time, the start of the VM, the end. */
#include "vmm/api/api.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/api/state.h"
#include "vmm/base/clock.h"
#include "vmm/base/err.h"
#include "vmm/base/fdstore.h"
#include "vmm/base/log.h"
#include "vmm/base/report.h"

#define FAULT_MAX 2048

void api_answer_done(struct api_answer *answer)
{
	answer->status = 204;
}

void api_answer_json(struct api_answer *answer, json_t *json)
{
	answer->status = 200;
	answer->body = json ? json_dumps(json, JSON_COMPACT) : NULL;
	if (!answer->body)
		answer->status = 503;
	json_decref(json);
}

void api_answer_fault(struct api_answer *answer, const char *fmt, ...)
{
	char text[FAULT_MAX];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	api_answer_json(answer, json_pack("{s:s}", "fault_message", text));
	answer->status = answer->body ? 400 : 503;
}

void api_send_answer(struct api *a, struct api_answer *answer)
{
	const struct http_reply reply = {
		.status = answer->status, .body = answer->body, .type = answer->type, .deprecated = answer->deprecated
	};

	if (answer->taken)
		http_reply_last(answer->fd, &reply);
	else
		http_reply(a->http, &reply);
	free(answer->body);
}

int api_new(struct api **ret, const struct api_params *params, struct err *e)
{
	struct api *a = calloc(1, sizeof(*a));

	*ret = a;
	if (!a)
		return err_set(e, -ENOMEM, "out of memory");
	a->id = params->id;
	a->boot_timer = params->boot_timer;
	a->mmds = (struct mmds)MMDS_INIT;
	a->mmds.limit = params->mmds_max;
	a->machine = (struct api_machine){ .vcpu_count = 1, .mem_size_mib = CONFIG_MEM_DEFAULT >> 20 };
	a->vsock_socket = UNIXNAME_INIT;
	a->log_fd = a->metrics_fd = -1;
	return params->socket ? http_new(&a->http, params->socket, params->body_max, e) : 0;
}

int api_start(struct api *a, int (*guard)(void *ctx), void *ctx, struct err *e)
{
	return a->http ? http_start(a->http, guard, ctx, e) : 0;
}

struct http_fds api_fds(const struct api *a)
{
	return http_fds(a->http);
}

int api_fd(const struct api *a)
{
	return a->http ? http_fd(a->http) : -1;
}

/* As Firecracker does. Metadata and commands may be secrets, so they are not in the log. */
static void log_request(const struct http_request *r)
{
	if (!r->len || !strncmp(r->path, "/mayfly/", strlen("/mayfly/")) ||
	    (!strncmp(r->path, "/mmds", strlen("/mmds")) && strcmp(r->path, "/mmds/config") != 0))
		log_info("The API server received a %s request on \"%s\".", api_method_name(r->method), r->path);
	else
		log_info("The API server received a %s request on \"%s\" with body \"%.*s\".",
			 api_method_name(r->method), r->path, (int)r->len, r->body);
}

void api_serve(void *api)
{
	struct api *a = api;
	struct http_request request;
	struct api_answer answer = { 0 };

	if (a->http && http_take_tick(a->http) && a->state != API_NOT_STARTED)
		api_write_metrics(a);
	if (!a->http || !http_take(a->http, &request))
		return;
	log_request(&request);
	api_route(a, &request, &answer);
	if (answer.status == 400)
		log_error("Received Error. Status code: 400 Bad Request. Message: %s", answer.body);
	if (answer.status)
		api_send_answer(a, &answer);
}

enum api_next api_await_start(struct api *a, int signal_fd)
{
	struct pollfd fds[] = { { .fd = api_fd(a), .events = POLLIN }, { .fd = signal_fd, .events = POLLIN } };

	while (!a->start) {
		if (poll(fds, 2, -1) <= 0)
			continue;
		if (fds[1].revents)
			return API_SIGNAL;
		api_serve(a);
	}
	a->start = false;
	return API_START;
}

int api_lend(struct api *a, struct err *e)
{
	if (a->vsock.uds_path)
		mmds_listen(&a->mmds, a->vsock.uds_path);
	if (a->load.asked)
		return api_lend_missing(a, e); /* the VM makes its socket itself */
	return a->vsock.uds_path ? unix_socket_provide(&a->vsock_socket, e) : 0;
}

int api_guest_fd(const struct api *a)
{
	return a->mmds.socket.fd;
}

void api_serve_guest(void *api)
{
	mmds_serve(&((struct api *)api)->mmds);
}

/* A VM that could not be started may have taken the socket, and closed it. */
static void listen_again(struct api *a)
{
	struct err e;

	fdstore_close();
	unix_socket_done(&a->mmds.socket);
	a->mmds.socket = UNIXNAME_INIT;
	unix_socket_done(&a->vsock_socket);
	a->vsock_socket = UNIXNAME_INIT;
	if (a->vsock.uds_path && unix_socket_listen(&a->vsock_socket, a->vsock.uds_path, SOCK_STREAM, &e) < 0)
		log_warn("vsock '%s': %s; continuing without", a->vsock.uds_path, e.text);
}

void api_started(struct api *a, const struct api_vm_ops *vm)
{
	struct api_answer answer = { .deprecated = a->load.deprecated };

	a->vm = vm;
	a->state = a->load.asked && !a->load.params.resume_vm ? API_IS_PAUSED : API_RUNNING;
	if (a->load.asked)
		a->metrics.load_us = (clock_now_ns() - a->load.began_ns) / 1000;
	api_write_metrics(a);
	api_answer_done(&answer);
	if (!a->unasked)
		api_send_answer(a, &answer);
}

void api_failed(void *api, const struct err *why)
{
	struct api *a = api;
	struct api_answer answer = { .deprecated = a->load.deprecated };

	if (a->unasked || a->load.asked)
		report_err(why);
	if (a->unasked)
		return;
	if (a->load.asked) {
		api_answer_fault(&answer, "Load snapshot error: Failed to restore from snapshot: %s", why->text);
		api_send_answer(a, &answer);
		return;
	}
	listen_again(a);
	api_answer_fault(&answer, "Start microvm error: %s", why->text);
	api_send_answer(a, &answer);
}

void api_ended(void *api)
{
	struct api *a = api;

	api_write_metrics(a);
	a->vm = NULL;
	a->ended = true;
}

void api_free(struct api *a)
{
	if (!a)
		return;
	http_free(a->http);
	unix_socket_done(&a->vsock_socket);
	for (unsigned i = 0; i < a->num_drives; i++)
		api_done(&api_drive, &a->drive[i]);
	for (unsigned i = 0; i < a->num_nets; i++)
		api_done(&api_net, &a->net[i]);
	api_done(&api_boot_source, &a->boot_source);
	api_done(&api_vsock, &a->vsock);
	api_done(&api_serial, &a->serial);
	api_done(&api_snapshot_load, &a->load.params);
	mmds_done(&a->mmds);
	api_cpu_done(&a->cpu);
	json_decref(a->own);
	if (!a->ended)
		api_write_metrics(a);
	if (a->metrics_fd >= 0)
		close(a->metrics_fd);
	json_decref(a->properties);
	free(a);
}
