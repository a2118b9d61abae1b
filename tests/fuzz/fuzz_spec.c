/* Fuzzes config.json of a bundle: any bytes give a configuration or a message. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/err.h"
#include "vmm/config/config.h"
#include "vmm/oci/json_at.h"
#include "vmm/oci/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err e = { .code = 0 };
	struct spec s = { .json = NULL };
	struct config c;
	json_t *json;

	config_init(&c);
	if (json_at_parse(&json, (const char *)data, size, "f", &e) < 0 || spec_take(&s, &c, json, "/", &e) < 0)
		assert(e.code < 0 && e.text[0]);
	else
		assert(c.command.args.num && (c.rootfs.path || c.num_live)); /* it may be live */
	spec_done(&s);
	config_done(&c);
	return 0;
}
