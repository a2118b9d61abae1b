/* Values of a JSON document that its author may have made wrong or hostile, with the names that messages call them by. */
#ifndef MF_OCI_JSON_AT_H
#define MF_OCI_JSON_AT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

#define JSON_AT_NAME_MAX 160
#define JSON_AT_FILE_MAX (4U << 20) /* bytes of a document */

/* A value, or that there is none. It lives as long as the document. */
struct json_at {
	const json_t *json;	     /* or NULL: it is missing, or null */
	char name[JSON_AT_NAME_MAX]; /* as "process.rlimits[2].type"; cut if it is longer */
};

/*
 * Reads a document whose top is an object. Returns 0 and the document, which the caller frees, or -errno with e set, which
 * names the file, and for a fault in it the line.
 */
int json_at_read(json_t **ret, const char *path, struct err *e);

/* The same of a text. */
int json_at_parse(json_t **ret, const char *text, size_t len, const char *name, struct err *e);

/*
 * The member of an object, of that type; ret may be at. A missing one has json NULL, unless it is required. Returns 0, or -EINVAL with e set, which
 * begins with the member's name. Nothing has no members: at may be missing.
 */
int json_at_member(const struct json_at *at, const char *key, json_type type, bool required, struct json_at *ret,
		   struct err *e);

/* The same for a number of 0 to max. *ret is untouched if it is missing. */
int json_at_number(const struct json_at *at, const char *key, bool required, uint64_t max, uint64_t *ret,
		   struct err *e);

/* The same for a limit, of which -1 says that there is none: then *ret is untouched. */
int json_at_limit(const struct json_at *at, const char *key, uint64_t *ret, struct err *e);

/* The same for a string without NUL; NULL if it is missing. */
int json_at_text(const struct json_at *at, const char *key, bool required, const char **ret, struct err *e);

/* The same for a bool: false if it is missing. */
int json_at_bool(const struct json_at *at, const char *key, bool *ret, struct err *e);

/* The element of an array, of that type. Returns 0, or -EINVAL with e set. */
int json_at_element(const struct json_at *at, size_t i, json_type type, struct json_at *ret, struct err *e);

/* The elements of an array; 0 if it is missing. */
size_t json_at_size(const struct json_at *at);

#endif
