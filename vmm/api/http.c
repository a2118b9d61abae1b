/*
 * Theory of operation.
 *
 * evhttp parses and writes; its event base belongs to the thread "api" alone. A request
 * that is complete joins a queue. The first of the queue is offered to the main thread: its
 * parts are put into http->request, and an eventfd (asked) is signalled. http_reply copies
 * the answer and signals the other eventfd (replied); the thread sends it and offers the
 * next one. So there is one request between the threads at any time, and it needs no lock:
 * the eventfds order the accesses.
 *
 * While a request waits, evhttp does not read from its connection, so a client that hangs
 * up meanwhile is noticed when the reply is written.
 *
 * evhttp has an answer of its own for some requests, in HTML. To get Firecracker's, all
 * methods are allowed, and the limit of a body is checked here, below that of evhttp.
 */
#include "vmm/api/http.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/unix_socket.h"
#include "vmm/base/util.h"
#include "vmm/process/ending.h"

#define LINE_MAX_LEN 8192		 /* bytes of a request's line and headers together */
#define NEVER_SECONDS (10 * 365 * 86400) /* an idle connection is not closed */
#define EVHTTP_BODY_MAX(max) ((max) + (64U << 10))

struct waiting {
	struct evhttp_request *request;
	STAILQ_ENTRY(waiting) next;
};

struct http {
	struct unix_socket socket;
	size_t body_max;
	int asked_fd, replied_fd; /* eventfds */
	pthread_t thread;
	bool running;
	int (*guard)(void *ctx);
	void *ctx;

	/* The thread's. */
	struct event_base *base;
	struct evhttp *server;
	struct event *replied;
	unsigned connections;
	STAILQ_HEAD(, waiting) queue;

	/* Handed over by the eventfds. */
	struct http_request request;
	char *path; /* of it */
	bool offered;
	struct http_reply reply;
	char *reply_body;
	atomic_bool stop;
};

/* The thread's side. */

/* The path of a URI, a copy: without the query. */
static const char *path_of(const char *uri, char **ret)
{
	*ret = strndup(uri, strcspn(uri, "?"));
	return *ret ? *ret : "";
}

static enum http_method method_of(struct evhttp_request *r)
{
	switch (evhttp_request_get_command(r)) {
	case EVHTTP_REQ_GET:
		return HTTP_GET;
	case EVHTTP_REQ_PUT:
		return HTTP_PUT;
	case EVHTTP_REQ_PATCH:
		return HTTP_PATCH;
	case EVHTTP_REQ_DELETE:
		return HTTP_DELETE;
	default:
		return HTTP_OTHER;
	}
}

static void send_reply(struct evhttp_request *r, const struct http_reply *reply)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(r);
	struct evbuffer *body = reply->body && *reply->body ? evbuffer_new() : NULL;
	struct bufferevent *bev;

	evhttp_add_header(headers, "Server", "Firecracker API");
	evhttp_add_header(headers, "Connection", "keep-alive");
	if (reply->deprecated)
		evhttp_add_header(headers, "Deprecation", "true");
	if (body) {
		evhttp_add_header(headers, "Content-Type", reply->type ? reply->type : "application/json");
		evbuffer_add(body, reply->body, strlen(reply->body));
	}
	bev = evhttp_connection_get_bufferevent(evhttp_request_get_connection(r));
	evhttp_send_reply(r, reply->status, "", body);
	bufferevent_flush(bev, EV_WRITE, BEV_FLUSH); /* a filter does not see that evhttp enables writing */
	if (body)
		evbuffer_free(body);
}

/* Offers the first of the queue to the main thread, if it has none. */
static void offer(struct http *h)
{
	struct waiting *w = STAILQ_FIRST(&h->queue);
	struct evbuffer *body;

	if (h->offered || !w)
		return;
	body = evhttp_request_get_input_buffer(w->request);
	h->request = (struct http_request){
		.method = method_of(w->request),
		.path = path_of(evhttp_request_get_uri(w->request), &h->path),
		.len = evbuffer_get_length(body),
		.body = (const char *)evbuffer_pullup(body, -1),
	};
	h->offered = true;
	(void)eventfd_write(h->asked_fd, 1); /* cannot fail: it was 0 */
}

static void on_replied(evutil_socket_t fd, short what, void *ctx)
{
	struct http *h = ctx;
	struct waiting *w = STAILQ_FIRST(&h->queue);
	eventfd_t count;

	(void)what;
	if (eventfd_read(fd, &count) == 0 && h->offered && w && h->reply.status) {
		STAILQ_REMOVE_HEAD(&h->queue, next);
		send_reply(w->request, &h->reply);
		free(h->reply_body);
		free(h->path);
		h->reply_body = h->path = NULL;
		h->reply = (struct http_reply){ 0 };
		h->offered = false;
		free(w);
		offer(h);
	}
	if (atomic_load(&h->stop))
		event_base_loopbreak(h->base);
}

static void on_request(struct evhttp_request *r, void *ctx)
{
	struct http *h = ctx;
	struct waiting *w;
	char text[160];
	size_t len;

	len = evbuffer_get_length(evhttp_request_get_input_buffer(r));
	if (len > h->body_max) {
		snprintf(text, sizeof(text),
			 "{\"error\":\"the body has %zu bytes, and %zu are allowed (--http-api-max-payload-size)\"}",
			 len, h->body_max);
		send_reply(r, &(struct http_reply){ .status = 400, .body = text });
		return;
	}
	w = calloc(1, sizeof(*w));
	if (!w) {
		send_reply(r, &(struct http_reply){ .status = 503, .body = "{\"error\":\"out of memory\"}" });
		return;
	}
	w->request = r;
	STAILQ_INSERT_TAIL(&h->queue, w, next);
	offer(h);
}

/* A connection of evhttp's. The bufferevent that it is given is a filter, which does nothing but tell its end. */
struct connection {
	struct http *http;
	struct bufferevent *bev;
	struct event *refusal; /* one too many: it is refused in the next turn, when it has its socket */
};

static void on_connection_freed(void *ctx)
{
	struct connection *c = ctx;

	c->http->connections--;
	if (c->refusal)
		event_free(c->refusal);
	free(c);
}

static void refuse_connection(evutil_socket_t unused, short what, void *ctx)
{
	static const char text[] = "HTTP/1.1 503 \r\nServer: Firecracker API\r\nConnection: close\r\n"
				   "Content-Type: application/json\r\nContent-Length: 40\r\n\r\n"
				   "{ \"error\": \"Too many open connections\" }";
	struct connection *c = ctx;
	int fd = bufferevent_getfd(bufferevent_get_underlying(c->bev));

	(void)unused;
	(void)what;
	/* Whether it is sent or not, the connection ends: evhttp reads EOF. */
	(void)!send(fd, text, sizeof(text) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)shutdown(fd, SHUT_RDWR);
}

/* Returns NULL if memory is short: evhttp then makes one itself, which is not counted. */
static struct bufferevent *new_connection(struct event_base *base, void *ctx)
{
	struct http *h = ctx;
	struct bufferevent *socket = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
	struct connection *c = calloc(1, sizeof(*c));

	if (socket && c)
		c->bev = bufferevent_filter_new(socket, NULL, NULL, BEV_OPT_CLOSE_ON_FREE, on_connection_freed, c);
	if (!socket || !c || !c->bev) {
		free(c);
		if (socket)
			bufferevent_free(socket);
		return NULL;
	}
	bufferevent_enable(socket, EV_READ | EV_WRITE); /* the filter only suspends it */
	c->http = h;
	if (++h->connections > HTTP_CONNECTIONS_MAX)
		c->refusal = evtimer_new(base, refuse_connection, c);
	if (c->refusal)
		event_active(c->refusal, EV_TIMEOUT, 0);
	return c->bev;
}

static void free_server(struct http *h)
{
	struct waiting *w;

	/* Requests belong to their connections, which evhttp frees. */
	while ((w = STAILQ_FIRST(&h->queue))) {
		STAILQ_REMOVE_HEAD(&h->queue, next);
		free(w);
	}
	if (h->replied)
		event_free(h->replied);
	if (h->server)
		evhttp_free(h->server);
	if (h->base)
		event_base_free(h->base);
}

/* It also frees what the main thread, confined by then, could not. */
static void *http_thread(void *arg)
{
	struct http *h = arg;

	(void)pthread_setname_np(pthread_self(), "api"); /* for people, and tests */
	tzset();					 /* else the first reply's date would open files */
	if (h->guard(h->ctx) == 0)
		event_base_dispatch(h->base);
	free_server(h);
	return NULL;
}

/* The main thread's side. */

static int make_server(struct http *h)
{
	const struct timeval never = { .tv_sec = NEVER_SECONDS };
	struct evconnlistener *listener;

	h->base = event_base_new();
	h->server = h->base ? evhttp_new(h->base) : NULL;
	if (!h->server)
		return -ENOMEM;
	evhttp_set_bevcb(h->server, new_connection, h);
	listener = evconnlistener_new(h->base, NULL, NULL, LEV_OPT_CLOSE_ON_EXEC, 0, h->socket.fd);
	if (!listener || !evhttp_bind_listener(h->server, listener))
		return -ENOMEM;
	h->replied = event_new(h->base, h->replied_fd, EV_READ | EV_PERSIST, on_replied, h);
	if (!h->replied || event_add(h->replied, NULL) < 0)
		return -ENOMEM;
	evhttp_set_gencb(h->server, on_request, h);
	evhttp_set_timeout_tv(h->server, &never);
	evhttp_set_max_headers_size(h->server, LINE_MAX_LEN);
	evhttp_set_max_body_size(h->server, (ev_ssize_t)EVHTTP_BODY_MAX(h->body_max));
	evhttp_set_allowed_methods(h->server, UINT16_MAX);
	return 0;
}

int http_new(struct http **ret, const char *path, size_t body_max, struct err *e)
{
	struct http *h = calloc(1, sizeof(*h));
	int r;

	*ret = h;
	if (!h)
		return err_neg(e, -ENOMEM, "make the API's server");
	h->socket = UNIXNAME_INIT;
	h->body_max = body_max;
	h->asked_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	h->replied_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	STAILQ_INIT(&h->queue);
	if (h->asked_fd < 0 || h->replied_fd < 0)
		return err_sys(e, "make the API's eventfds");
	if (unix_socket_listen(&h->socket, path, SOCK_STREAM, e) < 0)
		return err_wrap(e, "api-sock '%s'", path);
	r = make_server(h);
	return r < 0 ? err_neg(e, r, "make the API's server") : 0;
}

int http_start(struct http *h, int (*guard)(void *ctx), void *ctx, struct err *e)
{
	pthread_attr_t attr;
	int r;

	h->guard = guard;
	h->ctx = ctx;
	(void)pthread_attr_init(&attr); /* cannot fail, with glibc */
	ending_block_all(&attr);
	r = pthread_create(&h->thread, &attr, http_thread, h);
	pthread_attr_destroy(&attr);
	if (r)
		return err_neg(e, -r, "start the API's thread");
	h->running = true;
	return 0;
}

int http_fd(const struct http *h)
{
	return h->asked_fd;
}

struct http_fds http_fds(const struct http *h)
{
	return (struct http_fds){ .listen = h->socket.fd, .asked = h->asked_fd, .replied = h->replied_fd };
}

bool http_take(struct http *h, struct http_request *ret)
{
	eventfd_t count;

	if (eventfd_read(h->asked_fd, &count) < 0)
		return false;
	*ret = h->request;
	return true;
}

void http_reply(struct http *h, const struct http_reply *reply)
{
	h->reply = *reply;
	h->reply_body = reply->body ? strdup(reply->body) : NULL;
	h->reply.body = h->reply_body;
	if (reply->body && !h->reply_body)
		h->reply.status = 503;
	(void)eventfd_write(h->replied_fd, 1);
}

void http_free(struct http *h)
{
	if (!h)
		return;
	if (h->running) {
		atomic_store(&h->stop, true);
		(void)eventfd_write(h->replied_fd, 1);
		pthread_join(h->thread, NULL);
	} else {
		free_server(h);
	}
	free(h->path);
	free(h->reply_body);
	if (h->asked_fd >= 0)
		close(h->asked_fd);
	if (h->replied_fd >= 0)
		close(h->replied_fd);
	unix_socket_done(&h->socket);
	free(h);
}
