/* The configuration of an image: whatever it says, it is refused, or becomes a command that the configuration accepts. */
#include <assert.h>
#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/config/config.h"
#include "vmm/image/image_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *image = json_loadb((const char *)data, size, 0, NULL), *checked;
	struct config c;
	struct err e;

	config_init(&c);
	c.publish_all = true;
	checked = image_config_check(image, &e);
	if (checked && image_config_apply(checked, &c, &e) == 0) {
		assert(c.command.args.num > 0);
		for (unsigned i = 0; i < c.command.env.num; i++)
			assert(strchr(c.command.env.text[i], '='));
	}
	json_decref(checked);
	json_decref(image);
	config_done(&c);
	return 0;
}
