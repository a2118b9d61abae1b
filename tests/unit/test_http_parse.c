/* HTTP requests: what is a request, what is refused and how the connection goes on, in pieces of any size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "vmm/api/http_parse.h"
#include "vmm/base/util.h"

/* Appends what came of the bytes: "METHOD PATH BODY;", "!FAULT;", "+" for status 100, "." for the end. */
static void note(struct http_parser *p, enum http_event event, char *ret)
{
	char *at = ret + strlen(ret);

	if (event == HTTP_COMPLETE)
		sprintf(at, "%d %s %.*s;", p->method, p->path, (int)p->length, p->body ? p->body : "");
	else if (event == HTTP_REFUSED)
		sprintf(at, "!%s;", p->fault);
	else
		sprintf(at, "%s", event == HTTP_CONTINUE ? "+" : "");
	if ((event == HTTP_COMPLETE || event == HTTP_REFUSED) && p->ends)
		strcat(ret, ".");
}

static void feed(const char *text, size_t len, size_t piece, char *ret)
{
	struct http_parser p = { .body_max = 10 };
	enum http_event event = HTTP_MORE;

	*ret = '\0';
	while (event != HTTP_MORE || len) {
		size_t room, n = 0;
		char *to;

		if (event == HTTP_MORE) {
			to = http_parse_room(&p, &room);
			assert_true(room > 0);
			n = MF_MIN(MF_MIN(piece, room), len);
			memcpy(to, text, n);
			text += n;
			len -= n;
		}
		event = http_parse(&p, n);
		note(&p, event, ret);
		if (event == HTTP_COMPLETE || event == HTTP_REFUSED) {
			if (p.ends)
				break;
			http_parse_next(&p);
		}
	}
	http_parse_done(&p);
}

#define GET "GET /a HTTP/1.1\r\n\r\n"
#define X100 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X1000 X100 X100 X100 X100 X100 X100 X100 X100 X100 X100

static const struct {
	const char *text, *want;
} vectors[] = {
	{ GET, "0 /a ;" },
	{ GET GET "GET", "0 /a ;0 /a ;" },
	{ "PUT /b HTTP/1.1\r\nHost: h\r\ncontent-LENGTH:  2 \r\nX-Y:\r\n\r\n{}" GET, "1 /b {};0 /a ;" },
	{ "PATCH /b HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: +2\r\n\r\n{}", "2 /b {};" },
	{ "DELETE /b/ HTTP/1.1\r\n\r\n", "3 /b/ ;" },
	{ "GET /a?b=c#d HTTP/1.1\r\n\r\n", "0 /a?b=c#d ;" },
	{ "GET http://h:1/a/b HTTP/1.1\r\n\r\n", "0 /a/b ;" },
	{ "GET http://h HTTP/1.1\r\n\r\nGET a HTTP/1.1\r\n\r\nGET * HTTP/1.1\r\n\r\n", "0  ;0  ;0  ;" },
	{ "GET /a HTTP/1.0\r\n\r\n" GET, "0 /a ;0 /a ;" },
	{ "GET /a HTTP/1.0\r\nConnection: close\r\n\r\n" GET, "0 /a ;." },
	{ "GET /a HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n" GET, "0 /a ;0 /a ;" },
	{ "GET /a HTTP/1.1\r\nconnection: close\r\n\r\n" GET, "0 /a ;." },
	{ "PUT /b HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}" GET, "+1 /b {};0 /a ;" },
	{ "PUT /b HTTP/1.1\r\nExpect: 100-continue\r\n\r\n" GET, "1 /b ;0 /a ;" },
	{ "PUT /b HTTP/1.1\r\nExpect: other\r\nContent-Length: 2\r\n\r\n{}", "1 /b {};" },
	{ "PUT /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}", "1 /b {};" },
	{ "GET /" X100 X100 X100 X100 X100 X100 X100 X100 X100 " HTTP/1.1\r\nX: " X1000 "\r\n\r\n",
	  "0 /" X100 X100 X100 X100 X100 X100 X100 X100 X100 " ;" },
	/* The end of these is known: the next one is understood. */
	{ "POST /b HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}" GET,
	  "!Invalid HTTP Method: Unsupported HTTP method.;0 /a ;" },
	{ "get /b HTTP/2\r\n\r\n" GET, "!Invalid HTTP Method: Unsupported HTTP method.;0 /a ;" },
	{ "GET /b HTTP/1.2\r\n\r\n" GET, "!Invalid HTTP Version: Unsupported HTTP version.;0 /a ;" },
	{ "GET  HTTP/1.1\r\n\r\n" GET, "!Invalid URI: Empty URI not allowed.;0 /a ;" },
	{ "GET /\xc3 HTTP/1.1\r\n\r\n" GET, "!Invalid URI: Cannot parse URI as UTF-8.;0 /a ;" },
	{ "GET /b HTTP/1.1\r\nno colon\r\n\r\n" GET,
	  "!Invalid header. Reason: Header is incorrectly formatted.;0 /a ;" },
	{ "PUT /b HTTP/1.1\r\nContent-Length: 11\r\n\r\n12345678901" GET,
	  "!Request payload with size 11 is larger than the limit of 10 allowed by server.;0 /a ;" },
	/* And of these it is not. */
	{ "PUT /b HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n" GET,
	  "!Request payload with size 11 is larger than the limit of 10 allowed by server.;." },
	{ "PUT /b HTTP/1.1\r\nContent-Length: -1\r\n\r\n" GET,
	  "!Invalid header. Reason: Invalid value. Key:Content-Length.;." },
	{ "PUT /b HTTP/1.1\r\nContent-Length: 4294967296\r\n\r\n" GET,
	  "!Invalid header. Reason: Invalid value. Key:Content-Length.;." },
	{ "PUT /b HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
	  "!Invalid request. Chunks are not supported: send Content-Length.;." },
	{ "GET /" X1000 X100 " HTTP/1.1\r\n\r\n" GET, "!Invalid request.;." },
	{ "GET /b HTTP/1.1\r\nX: " X1000 X100 "\r\n\r\n" GET,
	  "!Invalid header. Reason: A line has more than 1024 bytes.;." },
	{ "hello\r\n", "!Invalid request.;" },
	{ "\r\n", "!Invalid request.;" },
	{ "GET /a\r\n", "!Invalid request.;" },
	{ "GET /a HTTP/1.1\n\n", "" },
};

static void test_vectors(void **state)
{
	char got[4096];

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(vectors); i++) {
		static const size_t pieces[] = { 1, 2, 7, 1023, 1024, 100000 };

		for (size_t k = 0; k < MF_ARRAY_SIZE(pieces); k++) {
			feed(vectors[i].text, strlen(vectors[i].text), pieces[k], got);
			if (strcmp(got, vectors[i].want) != 0)
				fail_msg("vector %zu in pieces of %zu: '%s', not '%s'", i, pieces[k], got,
					 vectors[i].want);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_vectors) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
