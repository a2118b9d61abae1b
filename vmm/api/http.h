/*
 * The server of Firecracker's API: HTTP/1.1 on a Unix socket, on a thread of its own that is
 * called "api". It reads requests and writes replies. What they
 * mean is decided by the main thread, which takes one at a time.
 *
 * Life: http_new -> http_start -> http_take, http_reply ... -> http_free.
 */
#ifndef MF_API_HTTP_H
#define MF_API_HTTP_H

#include <stdbool.h>
#include <stddef.h>

struct err;
struct http;

#define HTTP_CONNECTIONS_MAX 10	  /* as Firecracker; the next one gets status 503 */
#define HTTP_BODY_DEFAULT 51200U  /* bytes; Firecracker's --http-api-max-payload-size */
#define HTTP_BODY_MAX (16U << 20) /* of that option */

enum http_method { HTTP_GET, HTTP_PUT, HTTP_PATCH, HTTP_DELETE };

const char *http_method_name(enum http_method method); /* "GET"; http_parse.c */

struct http_request {
	enum http_method method;
	const char *path; /* a query belongs to it */
	const char *body; /* not terminated */
	size_t len;
};

struct http_reply {
	int status;
	const char *body; /* copied; NULL or "": none */
	const char *type; /* NULL: application/json */
	bool deprecated;  /* sends the header Deprecation: true */
};

/*
 * Listens at path (kept), which no file may have but a socket that nobody listens at.
 * body_max: bytes of a request's body. Returns 0 or -errno with e set; http_free accepts
 * either. Main thread.
 */
int http_new(struct http **ret, const char *path, size_t body_max, struct err *e);

/*
 * Starts the thread. guard runs on it first, for its filter: 0 or -errno. Requests that
 * came before are waiting. Returns 0 or -errno with e set.
 */
int http_start(struct http *http, int (*guard)(void *ctx), void *ctx, struct err *e);

/* Readable when a request waits for http_take. */
int http_fd(const struct http *http);

/* From now on, http_fd is readable every so many ms, too; http_take_tick says whether it was for that. Any time. */
void http_set_tick(struct http *http, unsigned ms);
bool http_take_tick(struct http *http);

/*
 * Takes the request that waits. Returns false if there is none. The request stays valid
 * until http_reply, which has to follow. Main thread.
 */
bool http_take(struct http *http, struct http_request *ret);
void http_reply(struct http *http, const struct http_reply *reply);

/*
 * In place of http_reply: the connection leaves the server, which serves others. Returns its descriptor, the caller's, at which
 * only the end of the client is to be waited for; or -1: it has gone. http_reply_last: answers on it as far as there is
 * room (HTTP_LAST_MAX bytes), and closes it. Main thread.
 */
int http_take_over(struct http *http);
void http_reply_last(int fd, const struct http_reply *reply);

#define HTTP_LAST_MAX 131072U /* bytes that fit into a socket at once */

/* Ends the thread, once a reply under way is written, and removes the socket. NULL is fine. */
void http_free(struct http *http);

/* For the thread's filter: its descriptors that are fixed. */
struct http_fds {
	int listen, asked, replied;
};

struct http_fds http_fds(const struct http *http);

#endif
