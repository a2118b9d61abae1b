/* Fuzzes the bodies of API requests: any bytes give an object or a message; an object that is printed reads the same. */
#include <assert.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/api/state.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct api_object *const objects[] = { &api_boot_source,  &api_machine, &api_machine_update, &api_drive,
						    &api_drive_update, &api_net,     &api_net_update,	  &api_vsock,
						    &api_logger,       &api_metrics, &api_serial,	  &api_action,
						    &api_vm,	       &api_mmds,    &api_ready,	  &api_exec };

static char *print(const struct api_object *object, const union api_body *from)
{
	json_t *json = api_print(object, from);
	char *text = json_dumps(json, JSON_COMPACT);

	json_decref(json);
	return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct api_object *object;
	union api_body value = { 0 }, again = { 0 };
	struct err e = { 0 };

	if (!size)
		return 0;
	object = objects[data[0] % MF_ARRAY_SIZE(objects)];
	assert(object->size <= sizeof(value));
	if (api_read_text(object, &value, (const char *)data + 1, size - 1, &e) == 0) {
		char *text = print(object, &value), *text_again;
		int r = api_read_text(object, &again, text, strlen(text), &e);

		assert(r == 0);
		text_again = print(object, &again);
		assert(!strcmp(text, text_again));
		free(text);
		free(text_again);
	} else {
		assert(e.code < 0 && e.text[0]);
	}
	api_done(object, &value);
	api_done(object, &again);
	return 0;
}
