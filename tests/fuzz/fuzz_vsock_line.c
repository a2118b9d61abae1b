/* Fuzzes the CONNECT line of vsock: any bytes give a port or are refused; what is accepted has the port that it says. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "virtio/vsock_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *line = malloc(size + 1); /* of its own, so that a byte too far is noticed */
	uint32_t port = 12345;
	char again[32];

	memcpy(line, data, size);
	if (vsock_unix_parse_line(line, size, &port) == 0) {
		int len = snprintf(again, sizeof(again), "CONNECT %u", port);
		uint32_t same = 0;

		assert(vsock_unix_parse_line(again, (size_t)len, &same) == 0 && same == port);
		line[size] = '\0';
		assert(strlen(line) == size && strtoull(line + 7, NULL, 10) == port);
	} else {
		assert(port == 12345);
	}
	free(line);
	return 0;
}
