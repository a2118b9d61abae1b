/* The keys of the cache; see image_cache.h. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "vmm/helper/image_cache.h"

static void hash(uint64_t *h, const void *data, size_t len)
{
	const uint8_t *byte = data;

	for (size_t i = 0; i < len; i++)
		*h = (*h ^ byte[i]) * 0x100000001b3ULL;
}

void image_key_begin(struct image_key *k, const char *source, const char *options)
{
	*k = (struct image_key){ 0xcbf29ce484222325ULL, { 0xcbf29ce484222325ULL, 0x6c62272e07bb0142ULL } };
	hash(&k->source, source, strlen(source) + 1);
	hash(&k->source, options, strlen(options));
}

void image_key_add(struct image_key *k, const void *data, size_t len)
{
	hash(&k->state[0], data, len);
	hash(&k->state[1], data, len);
}

void image_key_name(const struct image_key *k, const char *kind, char text[IMAGE_KEY_TEXT_MAX])
{
	snprintf(text, IMAGE_KEY_TEXT_MAX, "%016" PRIx64 "-%016" PRIx64 "%016" PRIx64 "%s", k->source, k->state[0],
		 k->state[1], kind);
}
