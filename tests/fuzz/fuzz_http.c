/* Fuzzes HTTP: bytes give the same requests in any pieces, each within its bounds. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/api/http_parse.h"
#include "vmm/base/util.h"

#define BODY_MAX 300U

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A sum over all that came of the bytes, up to the first after which the rest depends on the pieces. */
static uint64_t digest_of(const uint8_t *data, size_t size, size_t piece)
{
	struct http_parser *p = calloc(1, sizeof(*p)); /* of its own, so that a byte too far is noticed */
	enum http_event event = HTTP_MORE;
	uint64_t sum = 0;
	bool end = false;

	p->body_max = BODY_MAX;
	while (!end && (event != HTTP_MORE || size)) {
		size_t n = 0, room;
		char *to;

		if (event == HTTP_MORE) {
			to = http_parse_room(p, &room);
			assert(room > 0);
			n = MF_MIN(MF_MIN(piece, room), size);
			memcpy(to, data, n);
			data += n;
			size -= n;
		}
		event = http_parse(p, n);
		if (event != HTTP_MORE)
			sum = sum * 31 + event;
		if (event == HTTP_COMPLETE) {
			assert(p->length <= BODY_MAX && strlen(p->path) < sizeof(p->path));
			for (size_t i = 0; i < p->length; i++)
				sum = sum * 31 + (uint8_t)p->body[i];
			for (const char *c = p->path; *c; c++)
				sum = sum * 31 + (uint8_t)*c;
		}
		if (event == HTTP_REFUSED)
			assert(p->fault[0] && !strpbrk(p->fault, "\"\\"));
		end = (event == HTTP_COMPLETE && p->ends) ||
		      (event == HTTP_REFUSED && (p->ends || !strcmp(p->fault, "Invalid request.")));
		if (event == HTTP_COMPLETE || event == HTTP_REFUSED)
			http_parse_next(p);
	}
	http_parse_done(p);
	free(p);
	return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t whole;

	if (!size)
		return 0;
	whole = digest_of(data + 1, size - 1, SIZE_MAX);
	assert(digest_of(data + 1, size - 1, 1) == whole);
	assert(digest_of(data + 1, size - 1, 1U + data[0]) == whole);
	return 0;
}
