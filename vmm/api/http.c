/*
 * Theory of operation.
 *
 * The thread "api" has the sockets: it accepts, receives, parses (http_parse.h) and sends. The
 * oldest request that is complete is offered to the main thread: its parts are put into
 * http->request, and an eventfd (asked) is signalled. http_reply copies the answer and signals
 * the other eventfd (replied); the thread sends it and offers the next one. So there is one
 * request between the threads at any time, and it needs no lock: the eventfds order the
 * accesses.
 *
 * A connection is read until it has a request, and then not before the answer is sent. A
 * client that shuts down its side gets its answer, too. One that does not read its answer
 * keeps its connection, and nothing else. A request that takes long takes its connection with it, to the main thread.
 */
#include "vmm/api/http.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/api/http_parse.h"
#include "vmm/base/clock.h"
#include "vmm/base/err.h"
#include "vmm/base/unix_socket.h"
#include "vmm/base/util.h"
#include "vmm/process/ending.h"

#define HEAD_MAX 256	/* bytes of a reply's status and headers */
#define RETRY_MS 1000	/* after an accept that failed, for example because of too many files */
#define TAKEN_OVER (-1) /* in place of a reply's status */
#define SEND_FLAGS (MSG_DONTWAIT | MSG_NOSIGNAL)

struct connection {
	int fd; /* -1: the client has gone, while its request waits */
	enum { RECEIVES, WAITS, SENDS } state;
	uint64_t arrived; /* the number of its request, in order */
	struct http_parser parser;
	char *out;
	size_t out_len, out_done;
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
	struct connection *connection[HTTP_CONNECTIONS_MAX]; /* or NULL */
	struct connection *offered;			     /* its request is the main thread's */
	uint64_t requests;
	uint64_t tick_at_ms; /* 0: none yet */
	bool accept_failed;

	/* Handed over by the eventfds. */
	struct http_request request;
	int offered_fd; /* while it is offered, the thread does not look at the connection */
	struct http_reply reply;
	char *reply_body;
	atomic_bool asked;   /* the request is the main thread's to take; release and acquire order it */
	atomic_uint tick_ms; /* 0: none */
	atomic_bool ticked;
	atomic_bool stop;
};

/* The thread's side. */

static void free_connection(struct connection **c)
{
	if ((*c)->fd >= 0)
		close((*c)->fd);
	http_parse_done(&(*c)->parser);
	free((*c)->out);
	free(*c);
	*c = NULL;
}

/* Sends what is left of the answer. Once all is sent, the next request on the connection counts. */
static void send_rest(struct connection **slot)
{
	struct connection *c = *slot;
	ssize_t n = send(c->fd, c->out + c->out_done, c->out_len - c->out_done, SEND_FLAGS);

	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		free_connection(slot);
		return;
	}
	c->out_done += n > 0 ? (size_t)n : 0;
	c->state = SENDS;
	if (c->out_done < c->out_len)
		return;
	free(c->out);
	c->out = NULL;
	if (c->parser.ends) {
		free_connection(slot);
		return;
	}
	c->state = RECEIVES;
	http_parse_next(&c->parser);
}

/* The bytes of a reply, which the caller frees; or NULL: memory is short. */
static char *format(const struct http_reply *reply, bool ends, size_t *ret_len)
{
	const char *body = reply->body ? reply->body : "";
	char head[HEAD_MAX], type[96] = "", *out;
	int len;

	if (*body)
		snprintf(type, sizeof(type), "Content-Type: %s\r\nContent-Length: %zu\r\n",
			 reply->type ? reply->type : "application/json", strlen(body));
	len = snprintf(head, sizeof(head), "HTTP/1.1 %d \r\nServer: Firecracker API\r\nConnection: %s\r\n%s%s\r\n",
		       reply->status, ends ? "close" : "keep-alive", reply->deprecated ? "Deprecation: true\r\n" : "",
		       type);
	*ret_len = (size_t)len + strlen(body);
	out = malloc(*ret_len + 1);
	if (out)
		strcpy(mempcpy(out, head, (size_t)len), body);
	return out;
}

static void send_reply(struct connection **slot, const struct http_reply *reply)
{
	struct connection *c = *slot;

	c->out_done = 0;
	c->out = format(reply, c->parser.ends, &c->out_len);
	if (c->out)
		send_rest(slot);
	else
		free_connection(slot);
}

static void refuse(struct connection **c)
{
	char text[HTTP_FAULT_MAX + 16];

	snprintf(text, sizeof(text), "{\"error\":\"%s\"}", (*c)->parser.fault);
	send_reply(c, &(struct http_reply){ .status = 400, .body = text });
}

/* len bytes more have come. Returns whether there may be a request in what came before. */
static bool parse(struct http *h, struct connection **slot, size_t len)
{
	static const char go_on[] = "HTTP/1.1 100 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n";
	struct connection *c = *slot;

	switch (http_parse(&c->parser, len)) {
	case HTTP_CONTINUE:
		/* Every answer before has been sent: it fits, or the client does not read. */
		(void)!send(c->fd, go_on, sizeof(go_on) - 1, SEND_FLAGS);
		return true;
	case HTTP_COMPLETE:
		c->state = WAITS;
		c->arrived = ++h->requests;
		return false;
	case HTTP_REFUSED:
		refuse(slot);
		return *slot && (*slot)->state == RECEIVES;
	case HTTP_MORE:
		break;
	}
	return false;
}

static void parse_all(struct http *h, struct connection **slot, size_t len)
{
	while (*slot && (*slot)->state == RECEIVES && parse(h, slot, len))
		len = 0;
}

static void receive(struct http *h, struct connection **slot)
{
	size_t len;
	char *to = http_parse_room(&(*slot)->parser, &len);
	ssize_t n = recv((*slot)->fd, to, len, MSG_DONTWAIT);

	if (n > 0)
		parse_all(h, slot, (size_t)n);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		free_connection(slot);
}

/* Returns whether the thread goes on. */
static bool take_reply(struct http *h)
{
	struct connection **slot = NULL;
	eventfd_t count;

	if (eventfd_read(h->replied_fd, &count) == 0 && h->offered && h->reply.status) {
		for (size_t i = 0; i < MF_ARRAY_SIZE(h->connection); i++)
			if (h->connection[i] == h->offered)
				slot = &h->connection[i];
		h->offered = NULL;
		if (h->reply.status == TAKEN_OVER)
			(*slot)->fd = -1; /* it is the main thread's */
		if ((*slot)->fd < 0)
			free_connection(slot);
		else
			send_reply(slot, &h->reply);
		parse_all(h, slot, 0);
		free(h->reply_body);
		h->reply_body = NULL;
		h->reply = (struct http_reply){ 0 };
	}
	return !atomic_load(&h->stop);
}

/* Offers the oldest request to the main thread, if it has none. */
static void offer(struct http *h)
{
	struct connection *first = NULL;

	for (size_t i = 0; i < MF_ARRAY_SIZE(h->connection); i++) {
		struct connection *c = h->connection[i];

		if (c && c->state == WAITS && (!first || c->arrived < first->arrived))
			first = c;
	}
	if (h->offered || !first)
		return;
	h->request = (struct http_request){ .method = first->parser.method,
					    .path = first->parser.path,
					    .body = first->parser.body,
					    .len = first->parser.length };
	h->offered = first;
	h->offered_fd = first->fd;
	atomic_store_explicit(&h->asked, true, memory_order_release); /* http_take */
	(void)eventfd_write(h->asked_fd, 1);			      /* cannot fail: it is 0, or 1 for a tick */
}

/* A connection has something to receive, or room to send, or has ended. */
static void serve_connection(struct http *h, struct connection **slot, short events)
{
	struct connection *c = *slot;

	if (c->state == RECEIVES) {
		receive(h, slot);
	} else if (c->state == SENDS) {
		send_rest(slot);
		parse_all(h, slot, 0);
	} else if (events & (POLLHUP | POLLERR)) {
		close(c->fd);
		c->fd = -1;
	}
}

/* One connection too many. Whether the client gets the text or not, it is closed. */
static void refuse_connection(int fd)
{
	static const char text[] = "HTTP/1.1 503 \r\nServer: Firecracker API\r\nConnection: close\r\n"
				   "Content-Type: application/json\r\nContent-Length: 40\r\n\r\n"
				   "{ \"error\": \"Too many open connections\" }";

	(void)!send(fd, text, sizeof(text) - 1, SEND_FLAGS);
	close(fd);
}

static void accept_connection(struct http *h)
{
	int fd = accept4(h->socket.fd, NULL, NULL, SOCK_CLOEXEC);
	struct connection **slot = h->connection;

	h->accept_failed = fd < 0 && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED;
	if (fd < 0)
		return;
	while (slot < h->connection + HTTP_CONNECTIONS_MAX && *slot)
		slot++;
	if (slot == h->connection + HTTP_CONNECTIONS_MAX) {
		refuse_connection(fd);
		return;
	}
	*slot = calloc(1, sizeof(**slot));
	if (!*slot) {
		close(fd);
		return;
	}
	(*slot)->fd = fd;
	(*slot)->parser.body_max = h->body_max;
}

static short events_of(const struct connection *c)
{
	return c->state == RECEIVES ? POLLIN : c->state == SENDS ? POLLOUT : 0;
}

/* How long to wait: until the next tick, or until an accept is tried again. Makes the tick if it is due. */
static int wait_ms_of(struct http *h)
{
	unsigned every = atomic_load(&h->tick_ms);
	uint64_t now = every ? clock_now_ms() : 0;

	if (every && h->tick_at_ms && now >= h->tick_at_ms) {
		atomic_store(&h->ticked, true);
		(void)eventfd_write(h->asked_fd, 1); /* cannot fail: it is 0, or 1 for a request */
		h->tick_at_ms = 0;
	}
	if (every && !h->tick_at_ms)
		h->tick_at_ms = now + every;
	if (h->accept_failed)
		return RETRY_MS;
	return every ? (int)(h->tick_at_ms - now) : -1;
}

static void serve(struct http *h)
{
	struct pollfd fds[2 + HTTP_CONNECTIONS_MAX];

	for (;;) {
		fds[0] = (struct pollfd){ .fd = h->replied_fd, .events = POLLIN };
		fds[1] = (struct pollfd){ .fd = h->accept_failed ? -1 : h->socket.fd, .events = POLLIN };
		for (size_t i = 0; i < HTTP_CONNECTIONS_MAX; i++) {
			const struct connection *c = h->connection[i];

			fds[2 + i] = (struct pollfd){ .fd = c && c != h->offered ? c->fd : -1,
						      .events = c ? events_of(c) : 0 };
		}
		if (poll(fds, MF_ARRAY_SIZE(fds), wait_ms_of(h)) < 0)
			continue;
		h->accept_failed = false;
		if (fds[0].revents && !take_reply(h))
			return;
		for (size_t i = 0; i < HTTP_CONNECTIONS_MAX; i++)
			if (fds[2 + i].revents && h->connection[i])
				serve_connection(h, &h->connection[i], fds[2 + i].revents);
		if (fds[1].revents)
			accept_connection(h);
		offer(h);
	}
}

static void free_connections(struct http *h)
{
	for (size_t i = 0; i < HTTP_CONNECTIONS_MAX; i++)
		if (h->connection[i])
			free_connection(&h->connection[i]);
}

/* It also frees what the main thread, confined by then, could not. */
static void *http_thread(void *arg)
{
	struct http *h = arg;

	(void)pthread_setname_np(pthread_self(), "api"); /* for people, and tests */
	if (h->guard(h->ctx) == 0)
		serve(h);
	free_connections(h);
	return NULL;
}

/* The main thread's side. */

int http_new(struct http **ret, const char *path, size_t body_max, struct err *e)
{
	struct http *h = calloc(1, sizeof(*h));

	*ret = h;
	if (!h)
		return err_neg(e, -ENOMEM, "make the API's server");
	h->socket = UNIXNAME_INIT;
	h->body_max = body_max;
	h->asked_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	h->replied_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (h->asked_fd < 0 || h->replied_fd < 0)
		return err_sys(e, "make the API's eventfds");
	if (unix_socket_listen(&h->socket, path, SOCK_STREAM, e) < 0)
		return err_wrap(e, "api-sock '%s'", path);
	return 0;
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

void http_set_tick(struct http *h, unsigned ms)
{
	atomic_store(&h->tick_ms, ms);
}

bool http_take_tick(struct http *h)
{
	return atomic_exchange(&h->ticked, false);
}

bool http_take(struct http *h, struct http_request *ret)
{
	eventfd_t count;

	(void)eventfd_read(h->asked_fd, &count);			       /* whatever it was for is in the flags */
	if (!atomic_exchange_explicit(&h->asked, false, memory_order_acquire)) /* offer */
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

int http_take_over(struct http *h)
{
	int fd = h->offered_fd;

	http_reply(h, &(struct http_reply){ .status = TAKEN_OVER });
	return fd;
}

void http_reply_last(int fd, const struct http_reply *reply)
{
	struct iovec iov = { 0 };
	char *text = format(reply, true, &iov.iov_len);

	iov.iov_base = text;
	if (text) /* a client that has gone needs none */
		(void)!sendmsg(fd, &(struct msghdr){ .msg_iov = &iov, .msg_iovlen = 1 }, SEND_FLAGS);
	free(text);
	close(fd);
}

void http_free(struct http *h)
{
	if (!h)
		return;
	if (h->running) {
		atomic_store(&h->stop, true);
		(void)eventfd_write(h->replied_fd, 1);
		pthread_join(h->thread, NULL);
	}
	free(h->reply_body);
	if (h->asked_fd >= 0)
		close(h->asked_fd);
	if (h->replied_fd >= 0)
		close(h->replied_fd);
	unix_socket_done(&h->socket);
	free(h);
}
