/*
 * Parses HTTP requests, as Firecracker's server does: a line of 1,024 bytes at most, headers,
 * and a body by Content-Length. No chunks. Has no socket: the caller receives bytes into
 * http_parse_room, and says how many.
 */
#ifndef MF_API_HTTP_PARSE_H
#define MF_API_HTTP_PARSE_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/api/http.h"

#define HTTP_LINE_MAX 1024 /* bytes of a line, with CR LF */
#define HTTP_FAULT_MAX 160

enum http_event {
	HTTP_MORE,     /* bytes are missing */
	HTTP_CONTINUE, /* the client waits for status 100; call again with 0 bytes */
	HTTP_COMPLETE, /* a request: method, path, body, length; until http_parse_next */
	HTTP_REFUSED,  /* no request: fault says why; then http_parse_next, too */
};

struct http_parser {
	size_t body_max;
	enum http_method method;
	char path[HTTP_LINE_MAX];
	char *body;    /* length bytes; NULL: none */
	size_t length; /* by Content-Length */
	bool ends;     /* the connection ends with the answer */
	char fault[HTTP_FAULT_MAX];

	char line[HTTP_LINE_MAX]; /* received, and not looked at */
	size_t have, body_have;
	size_t skip; /* bytes of a body that was refused */
	enum { HTTP_AT_LINE, HTTP_AT_HEADERS, HTTP_AT_BODY } at;
	bool expects, chunked;
};

/* Zeroed but for body_max, it is ready. http_parse_done frees the body. */
void http_parse_done(struct http_parser *p);

/* Where the next bytes are received. At least one has room, unless a request is complete. */
char *http_parse_room(struct http_parser *p, size_t *ret_len);

/* len bytes more, of that room. */
enum http_event http_parse(struct http_parser *p, size_t len);

/* The request is answered: bytes that came after it may already hold the next one (http_parse with 0). */
void http_parse_next(struct http_parser *p);

#endif
