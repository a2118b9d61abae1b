/*
 * Theory of operation.
 *
 * Bytes are received into line, and into the body once its length is known, never further than
 * that: so at most a line of the next request is held while one is answered.
 *
 * A fault in a line that still shows where the request ends (an unknown method, for example)
 * is kept, and answered at that end: the next request on the connection is understood. Where
 * the end is not known, the connection ends with the answer. Firecracker keeps such a
 * connection, and takes the rest for requests.
 */
#include "vmm/api/http_parse.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "vmm/base/parse.h"
#include "vmm/base/util.h"

void http_parse_done(struct http_parser *p)
{
	free(p->body);
	p->body = NULL;
}

void http_parse_next(struct http_parser *p)
{
	free(p->body);
	p->body = NULL;
	p->length = p->body_have = 0;
	p->at = HTTP_AT_LINE;
	p->expects = p->chunked = false;
	p->fault[0] = '\0';
}

char *http_parse_room(struct http_parser *p, size_t *ret_len)
{
	if (p->at == HTTP_AT_BODY && !p->have) {
		*ret_len = p->length - p->body_have;
		return p->body + p->body_have;
	}
	*ret_len = sizeof(p->line) - p->have;
	return p->line + p->have;
}

/* The first fault of a request is answered. */
static void set_fault(struct http_parser *p, const char *text)
{
	if (!p->fault[0])
		snprintf(p->fault, sizeof(p->fault), "%s", text);
}

/* The end of this request is not known. */
static enum http_event give_up(struct http_parser *p, const char *text)
{
	set_fault(p, text);
	p->have = p->skip = 0;
	p->ends = true;
	return HTTP_REFUSED;
}

static void drop(struct http_parser *p, size_t len)
{
	p->have -= len;
	memmove(p->line, p->line + len, p->have);
}

static const char *const method_names[] = {
	[HTTP_GET] = "GET", [HTTP_PUT] = "PUT", [HTTP_PATCH] = "PATCH", [HTTP_DELETE] = "DELETE"
};

const char *http_method_name(enum http_method method)
{
	return method_names[method];
}

static bool read_method(struct http_parser *p, const char *text)
{
	for (size_t i = 0; i < MF_ARRAY_SIZE(method_names); i++) {
		if (!strcmp(method_names[i], text)) {
			p->method = (enum http_method)i;
			return true;
		}
	}
	return false;
}

/* The path of http://HOST/PATH or /PATH; anything else has none. A query belongs to the path. */
static const char *path_of(const char *uri)
{
	static const char scheme[] = "http://";
	const char *slash;

	if (uri[0] == '/')
		return uri;
	slash = strncmp(uri, scheme, sizeof(scheme) - 1) != 0 ? NULL : strchr(uri + sizeof(scheme) - 1, '/');
	return slash ? slash : "";
}

static bool is_ascii(const char *text)
{
	while (*text && (unsigned char)*text < 0x80)
		text++;
	return !*text;
}

/* METHOD URI VERSION, with one space between each. Returns whether it is one. */
static bool read_first_line(struct http_parser *p, char *line)
{
	char *uri = strchr(line, ' '), *version = uri ? strchr(uri + 1, ' ') : NULL;

	if (!version)
		return false;
	*uri++ = *version++ = '\0';
	if (!read_method(p, line))
		set_fault(p, "Invalid HTTP Method: Unsupported HTTP method.");
	if (!*uri)
		set_fault(p, "Invalid URI: Empty URI not allowed.");
	else if (!is_ascii(uri))
		set_fault(p, "Invalid URI: Cannot parse URI as UTF-8.");
	if (strcmp(version, "HTTP/1.1") != 0 && strcmp(version, "HTTP/1.0") != 0)
		set_fault(p, "Invalid HTTP Version: Unsupported HTTP version.");
	p->ends = false; /* after HTTP/1.0, too: a client of Firecracker's sends it on a connection that it keeps */
	snprintf(p->path, sizeof(p->path), "%s", path_of(uri));
	return true;
}

/* NAME: VALUE. Returns -EINVAL if the length is not one. */
static int read_header(struct http_parser *p, char *line)
{
	char *value = strchr(line, ':'), *end;
	uint64_t length;

	if (!value) {
		set_fault(p, "Invalid header. Reason: Header is incorrectly formatted.");
		return 0;
	}
	*value++ = '\0';
	line[strcspn(line, " \t")] = '\0';
	value += strspn(value, " \t");
	for (end = value + strlen(value); end > value && (end[-1] == ' ' || end[-1] == '\t'); end--)
		end[-1] = '\0';
	if (!strcasecmp(line, "Content-Length")) {
		if (parse_u64(value + (*value == '+'), &length) < 0 || length > UINT32_MAX)
			return -EINVAL;
		p->length = (size_t)length;
	} else if (!strcasecmp(line, "Expect")) {
		p->expects = !strcasecmp(value, "100-continue");
	} else if (!strcasecmp(line, "Transfer-Encoding")) {
		p->chunked = !strcasecmp(value, "chunked");
	} else if (!strcasecmp(line, "Connection")) {
		if (!strcasecmp(value, "close"))
			p->ends = true;
		else if (!strcasecmp(value, "keep-alive"))
			p->ends = false;
	}
	return 0;
}

static enum http_event end_head(struct http_parser *p)
{
	char text[HTTP_FAULT_MAX];

	if (p->chunked && !p->length)
		return give_up(p, "Invalid request. Chunks are not supported: send Content-Length.");
	if (p->length > p->body_max) {
		snprintf(text, sizeof(text),
			 "Request payload with size %zu is larger than the limit of %zu allowed by server.", p->length,
			 p->body_max);
		set_fault(p, text);
	}
	if (p->fault[0]) {
		/* A client that waits for status 100 may send the body or not. */
		if (p->expects && p->length)
			return give_up(p, p->fault);
		p->skip = p->length;
		return HTTP_REFUSED;
	}
	if (!p->length)
		return HTTP_COMPLETE;
	p->body = malloc(p->length);
	if (!p->body)
		return give_up(p, "Out of memory.");
	p->at = HTTP_AT_BODY;
	return p->expects ? HTTP_CONTINUE : HTTP_MORE;
}

/* A line, without its CR LF. */
static enum http_event take_line(struct http_parser *p, char *line)
{
	if (p->at == HTTP_AT_HEADERS && !*line)
		return end_head(p);
	if (p->at == HTTP_AT_HEADERS)
		return read_header(p, line) < 0 ?
			       give_up(p, "Invalid header. Reason: Invalid value. Key:Content-Length.") :
			       HTTP_MORE;
	if (!read_first_line(p, line)) {
		set_fault(p, "Invalid request.");
		p->have = 0; /* the rest of it, most likely */
		return HTTP_REFUSED;
	}
	p->at = HTTP_AT_HEADERS;
	return HTTP_MORE;
}

static enum http_event take_body(struct http_parser *p)
{
	size_t len = MF_MIN(p->have, p->length - p->body_have);

	memcpy(p->body + p->body_have, p->line, len);
	p->body_have += len;
	drop(p, len);
	return p->body_have == p->length ? HTTP_COMPLETE : HTTP_MORE;
}

enum http_event http_parse(struct http_parser *p, size_t len)
{
	char line[HTTP_LINE_MAX], *end;
	enum http_event event = HTTP_MORE;
	size_t line_len;

	if (p->at == HTTP_AT_BODY && !p->have)
		p->body_have += len;
	else
		p->have += len;
	while (event == HTTP_MORE) {
		line_len = MF_MIN(p->skip, p->have);
		p->skip -= line_len;
		drop(p, line_len);
		if (p->at == HTTP_AT_BODY)
			return take_body(p);
		end = memmem(p->line, p->have, "\r\n", 2);
		if (!end && p->have == sizeof(p->line))
			return give_up(p, p->at == HTTP_AT_LINE ?
						  "Invalid request." :
						  "Invalid header. Reason: A line has more than 1024 bytes.");
		if (!end)
			return HTTP_MORE;
		line_len = (size_t)(end - p->line);
		memcpy(line, p->line, line_len);
		line[line_len] = '\0'; /* what follows a NUL is not looked at */
		drop(p, line_len + 2);
		event = take_line(p, line);
	}
	return event;
}
