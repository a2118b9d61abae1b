/* A record of a VM: whatever the file says, it is refused, or its members have the types that `mayfly ps` expects. */
#include <assert.h>
#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/records/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct record r = { .name = "vm", .fd = memfd_create("record", MFD_CLOEXEC) };

	if (r.fd < 0 || fchmod(r.fd, 0600) < 0 || write(r.fd, data, size) != (ssize_t)size)
		abort();
	if (record_update(&r) == 0) {
		assert(r.pid > 0 && (size_t)r.good <= size && !r.alive);
		assert(record_text(&r, "id") && record_text(&r, "state"));
		assert(record_time(&r, "ended") >= 0 && record_number(&r, "mem") >= 0);
		assert(record_status(&r) >= 0 && record_status(&r) < 256);
	}
	record_done(&r);
	return 0;
}
