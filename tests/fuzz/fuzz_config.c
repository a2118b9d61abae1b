/* Fuzzes the JSON configuration: any bytes give a configuration or a message; a configuration survives a round trip. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmm/base/err.h"
#include "vmm/config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config c, again;
	char *text = NULL;
	struct err e;
	size_t len;

	config_init(&c);
	config_init(&again);
	if (config_read_text(&c, (const char *)data, size, "f", &e) == 0) {
		FILE *out = open_memstream(&text, &len);
		int r = config_print(&c, out, &e);

		fclose(out);
		assert(r == 0);
		r = config_read_text(&again, text, len, "printed", &e);
		assert(r == 0 && again.mem == c.mem && again.num_drives == c.num_drives);
	} else {
		assert(e.code < 0 && e.text[0]);
	}
	free(text);
	config_done(&again);
	config_done(&c);
	return 0;
}
