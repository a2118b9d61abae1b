/*
 * libFuzzer entry of what unpacks artifacts: any archive is unpacked or refused with a sentence, and what was unpacked is
 * what may be moved to its place. The sums of headers are made right, or nothing would get far. Seeds: corpus/untar, made
 * by corpus/untar.py.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/helper/artifact_dir.h"
#include "vmm/helper/untar.h"

#define BLOCK 512U
#define MEMBERS_MAX 64
#define BYTES_MAX (1U << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* As if each block were a header. */
static void make_sums(uint8_t *data, size_t size)
{
	for (; size >= BLOCK; data += BLOCK, size -= BLOCK) {
		unsigned sum = 0;
		char text[8];

		if (memcmp(data + 257, "ustar", 5) != 0)
			continue;
		memset(data + 148, ' ', 8);
		for (unsigned i = 0; i < BLOCK; i++)
			sum += data[i];
		snprintf(text, sizeof(text), "%06o", sum);
		memcpy(data + 148, text, sizeof(text));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char host[] = "/tmp/mayfly-fuzz-untar-XXXXXX";
	const struct config_artifact config = { .guest = (char[]){ "/a" }, .host = host };
	MF_CLOSE int fd = memfd_create("archive", MFD_CLOEXEC);
	MF_FREE uint8_t *copy = malloc(size + 1);
	struct untar_params params = { .from = fd, .max_bytes = BYTES_MAX, .max_members = MEMBERS_MAX };
	struct err e = { 0 };
	struct artifact_dir d;

	if (!mkdtemp(host))
		abort();
	memcpy(copy, data, size);
	make_sums(copy, size);
	if (fd < 0 || fdio_write_all(fd, copy, size) < 0 || lseek(fd, 0, SEEK_SET) < 0 ||
	    artifact_dir_open(&d, &config, &e) < 0)
		abort();
	params.dir = d.fresh;
	params.name = d.name;
	if (untar(&params, &e) == 0) {
		if (artifact_dir_move(&d, MEMBERS_MAX, BYTES_MAX, &e) < 0)
			abort();
	} else if (e.code >= 0 || e.text[0] == '\0') {
		abort();
	}
	if (artifact_dir_remove(&d, &e) < 0)
		abort();
	strcpy(d.fresh_name, d.name); /* what was moved */
	(void)artifact_dir_remove(&d, &e);
	artifact_dir_close(&d);
	if (rmdir(host) < 0) /* and there is nothing else */
		abort();
	return 0;
}
