/* Archives, as init writes them and as an attacker would. Include it once, in the test. */
#ifndef MF_TESTS_UNIT_TAR_FIXTURE_H
#define MF_TESTS_UNIT_TAR_FIXTURE_H

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define TAR_MAX (1U << 20)

struct tar {
	size_t len;
	char data[TAR_MAX];
};

static inline void tar_raw(struct tar *t, const void *data, size_t len)
{
	assert(t->len + len + 512 <= sizeof(t->data));
	memcpy(t->data + t->len, data, len);
	memset(t->data + t->len + len, 0, 512);
	t->len += (len + 511) / 512 * 512;
}

/* Only a header: size bytes should follow. */
static inline void tar_header(struct tar *t, char kind, const char *name, const char *link, unsigned mode,
			      uint32_t size)
{
	char h[512] = { 0 };
	unsigned sum = 0;

	memcpy(h, name, strlen(name) < 100 ? strlen(name) : 100);
	snprintf(h + 100, 8, "%07o", mode);
	snprintf(h + 108, 8, "%07o", 0U);
	snprintf(h + 116, 8, "%07o", 0U);
	snprintf(h + 124, 12, "%011o", (unsigned)size);
	snprintf(h + 136, 12, "%011o", 1000000000U);
	memset(h + 148, ' ', 8);
	h[156] = kind;
	memcpy(h + 157, link, strlen(link) < 100 ? strlen(link) : 100);
	memcpy(h + 257, "ustar  ", 8);
	for (unsigned i = 0; i < sizeof(h); i++)
		sum += (unsigned char)h[i];
	snprintf(h + 148, 8, "%06o", sum);
	tar_raw(t, h, sizeof(h));
}

static inline void tar_file(struct tar *t, const char *name, unsigned mode, const char *text)
{
	tar_header(t, '0', name, "", mode, strlen(text));
	tar_raw(t, text, strlen(text));
}

static inline void tar_dir(struct tar *t, const char *name, unsigned mode)
{
	tar_header(t, '5', name, "", mode, 0);
}

static inline void tar_link(struct tar *t, const char *name, const char *to)
{
	tar_header(t, '2', name, to, 0777, 0);
}

/* The name of the next member (kind 'L'), or what its link leads to ('K'). */
static inline void tar_long(struct tar *t, char kind, const char *name)
{
	tar_header(t, kind, "././@LongLink", "", 0, strlen(name) + 1);
	tar_raw(t, name, strlen(name) + 1);
}

static inline void tar_end(struct tar *t)
{
	static const char zero[1024];

	tar_raw(t, zero, sizeof(zero));
}

#endif
