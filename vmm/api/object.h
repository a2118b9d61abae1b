/*
 * The objects of Firecracker's API, as tables: a row for each key, with the place of its
 * value in a struct. The rows define the reader of requests and of --config-file, what GET
 * prints, and the specification (configs/api.json). objects.h has the structs.
 */
#ifndef MF_API_OBJECT_H
#define MF_API_OBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct json_t;

enum api_type {
	API_TEXT,   /* char *; NULL: not given */
	API_BOOL,   /* bool */
	API_NUMBER, /* uint64_t, max at most */
	API_WORD,   /* unsigned: the place in words */
	API_OBJECT, /* a struct, by object */
	API_LIST,   /* struct api_list of such structs */
	API_TEXTS,  /* struct json_t *: an object whose values are strings */
	API_ANY,    /* struct json_t *, not looked at */
};

/*
 * An optional value may be null, which is as if it were not given, unless it is strict. In
 * print, it is null if it was not given, unless it is always printed.
 */
struct api_field {
	const char *key;
	enum api_type type;
	bool required;
	bool always; /* printed with its default, too */
	bool hidden; /* not printed */
	bool given;  /* printed only if it was given */
	bool strict; /* optional, but null is refused */
	bool deprecated;
	size_t at;
	uint64_t max;
	const char *const *words;     /* the last is followed by NULL */
	bool (*is)(const char *text); /* of API_TEXT: whether it is one; or NULL */
	const char *fault;	      /* what a text that is none is answered */
	const struct api_object *object;
};

#define API_FIELDS_MAX 16

struct api_list {
	void *item; /* num structs, one behind the other */
	unsigned num;
};

/* The struct of an object begins with this. */
struct api_given {
	uint32_t bits; /* by the number of the field: it has a value that is not null */
};

struct api_object {
	const char *name;
	const struct api_field *fields; /* the last has no key */
	size_t size;			/* of the struct */
	bool loose;			/* keys that it does not have are ignored */
	bool answers;			/* a request with it is answered with status 200 and a body */
	bool some;			/* a request without any value is refused */
};

/* Whether the field of that key was given. */
bool api_has(const struct api_object *object, const void *from, const char *key);

/* Whether a deprecated field was given. */
bool api_is_deprecated(const struct api_object *object, const void *from);

/* Notes that it was given, or that it was not. */
void api_set_given(const struct api_object *object, void *to, const char *key, bool given);

/*
 * Reads json into *to, which is zeroed or has defaults; members that are not given stay.
 * Returns 0, or -EINVAL with e set. api_done accepts either.
 */
int api_read(const struct api_object *object, void *to, struct json_t *json, struct err *e);

/* The same for len bytes of text, in which no key may be twice. */
int api_read_text(const struct api_object *object, void *to, const char *text, size_t len, struct err *e);

/* A new JSON object, or NULL if memory is short. */
struct json_t *api_print(const struct api_object *object, const void *from);

/* Frees all values and zeroes the struct. */
void api_done(const struct api_object *object, void *from);

#endif
