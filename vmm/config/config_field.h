/*
 * The keys of the configuration, as tables: one for the configuration itself, one for
 * each of its objects. A row is a key: the place of its value, its type, its bounds, its
 * help. The rows define the options of the command line that name a key and the SPECs of
 * drives, interfaces and the jail. They also define the reader of --config, the output of
 * --dry-run, mayfly(5), and config_done. A new key is a row in config_fields.c.
 */
#ifndef MF_CONFIG_CONFIG_FIELD_H
#define MF_CONFIG_CONFIG_FIELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct config;
struct config_field;
struct config_list;
struct err;
struct json_t;

/*
 * How a SPEC writes a value: NAME=VALUE once, NAME alone, either of them, or NAME=VALUE
 * any number of times.
 */
enum config_value { CONFIG_VALUE, CONFIG_FLAG, CONFIG_FLAG_OR_VALUE, CONFIG_MANY };

/* The type of a value. object is the struct to which the row's offset applies. */
struct config_type {
	unsigned json; /* accepted JSON types: bits 1 << JSON_STRING, ... */
	enum config_value value;
	/*
	 * Sets the value from text; a list gets one more entry. Returns 0, or -errno with
	 * e set to the accepted values; the caller puts the name in front. Numbers and
	 * booleans of JSON come as their text.
	 */
	int (*set)(void *object, const struct config_field *f, const char *text, struct err *e);
	/*
	 * Reads an array or object; puts the key, with prefix in front, into e itself.
	 * NULL: set takes strings of an array.
	 */
	int (*read)(void *object, const struct config_field *f, struct json_t *value, const char *prefix,
		    struct err *e);
	/*
	 * Adds the value to the JSON object `to`, unless it is to be omitted. Returns
	 * false on failure. NULL: never printed.
	 */
	bool (*print)(const void *object, const struct config_field *f, struct json_t *to);
	/* Frees the value. NULL: nothing to free. */
	void (*done)(void *object, const struct config_field *f);
};

struct config_field {
	const char *key; /* in JSON; NULL ends the table */
	const struct config_type *type;
	uint32_t at, size;	  /* of the member */
	uint64_t min, max;	  /* of a number; max: bytes of a text */
	const char *const *words; /* of an enum, in its order; the last is followed by NULL */
	/* Checks a text beyond its length: returns 0, or -errno with e set. Or NULL. */
	int (*check)(const char *text, const struct config_field *f, struct err *e);
	const char *spec;     /* its name in a SPEC; NULL: not in a SPEC */
	const char *spec_off; /* of a flag: the name that sets it to false, or NULL */
	const char *help;     /* NULL: that of the option with the same key */
	unsigned flags;
};

#define CONFIG_SPARSE 1U   /* printed only if it is not 0 */
#define CONFIG_NOT_JSON 2U /* an option of the command line alone */
#define CONFIG_LIVE 4U	   /* may be changed while the VM runs */

/* The objects: "" (the configuration), "drives", "nets", "vsock" and "jail". */
struct config_object {
	const char *name;
	const struct config_field *fields;
};

extern const struct config_object config_objects[]; /* the last has no name */
extern const struct config_field config_fields[], config_drive_fields[], config_net_fields[], config_vsock_fields[],
	config_jail_fields[];

/* The row of that key, or NULL. */
const struct config_field *config_find_field(const struct config_field *fields, const char *key);

/* The JSON types of a field in words: "a string or an integer". */
const char *config_json_types(const struct config_field *f);

/* Frees all values of an object. */
void config_fields_done(const struct config_field *fields, void *object);

/* Reads or prints all fields of an object; prefix stands in front of the key in messages: "" or "drives[1].". */
int config_read_object(const struct config_field *fields, void *object, struct json_t *json, const char *prefix,
		       struct err *e);
bool config_print_object(const struct config_field *fields, const void *object, struct json_t *to);

/*
 * The same for an array of objects. begin returns the next empty one, or NULL with e set;
 * end checks it.
 */
int config_read_list(const struct config_field *f, const struct config_field *fields,
		     void *(*begin)(struct config *c, struct err *e), int (*end)(struct config *c, struct err *e),
		     struct config *c, struct json_t *list, struct err *e);
bool config_print_list(const struct config_field *f, const struct config_field *fields, const void *objects,
		       size_t size, unsigned num, struct json_t *to);

/* An array of num strings; NULL if memory is short or a string is not UTF-8. */
struct json_t *config_strings(char *const *text, unsigned num);

/*
 * Adds a value to a JSON object. Takes ownership of value, which may be NULL (out of
 * memory, or not UTF-8).
 */
bool config_put(struct json_t *to, const char *key, struct json_t *value);

/*
 * SPECs (config_spec.c). config_take_spec: parts separated by commas. config_cut_spec:
 * parts after colons, taken and cut off from the end of text, up to the first that is
 * none. Both return 0 or -errno with e set.
 */
int config_take_spec(const struct config_field *fields, void *object, const char *text, const char *others,
		     struct err *e);

/* Whether the first part of a SPEC with commas is one that fields have. */
bool config_has_spec(const struct config_field *fields, const char *spec);
int config_cut_spec(const struct config_field *fields, void *object, char *text, struct err *e);

/* The place of a field's value. */
static inline void *config_at(const void *object, const struct config_field *f)
{
	return (char *)(uintptr_t)object + f->at;
}

/* For types of their own: set *to as the types below do. */
int config_copy_text(char **to, const char *text, size_t max_len, struct err *e);
int config_copy_path(char **to, const char *text, struct err *e);
int config_copy_bool(bool *to, const char *text, struct err *e);

/* The same for config_type's print and done, of a char * member. */
bool config_print_text(const void *object, const struct config_field *f, struct json_t *to);
void config_free_text(void *object, const struct config_field *f);

/* The same for a struct config_list; config_texts_add copies text to its end. */
int config_texts_add(struct config_list *l, const char *text, struct err *e);
void config_texts_done(struct config_list *l);
bool config_print_texts(const void *object, const struct config_field *f, struct json_t *to);
void config_free_texts(void *object, const struct config_field *f);

/* config_types.c */
extern const struct config_type config_type_text;  /* char *, up to max bytes, and as check has it */
extern const struct config_type config_type_texts; /* a struct config_list of such, CONFIG_TEXTS_MAX at most */
extern const struct config_type config_type_bool;
extern const struct config_type config_type_number; /* unsigned or uint64_t, min to max */
extern const struct config_type config_type_word;   /* an enum */
extern const struct config_type config_type_mem;
extern const struct config_type config_type_size;
extern const struct config_type config_type_duration;
extern const struct config_type config_type_limit_bytes, config_type_limit_ops; /* struct ratelimit_params */

/*
 * Types and checks of one part of the configuration, in the file that is named after it.
 */
extern const struct config_type config_type_drives, config_type_overlay, config_type_mount_read_only,
	config_type_rate_limiter;
extern const struct config_type config_type_rootfs, config_type_image, config_type_volume, config_type_artifacts;
extern const struct config_type config_type_tmpfs, config_type_secrets;
extern const struct config_type config_type_nets, config_type_tap, config_type_fd, config_type_user_net,
	config_type_mac, config_type_tcp, config_type_udp;
extern const struct config_type config_type_vsock;
extern const struct config_type config_type_jail, config_type_ids, config_type_memory_max, config_type_pids_max,
	config_type_io_max;
extern const struct config_type config_type_args, config_type_env, config_type_tty, config_type_signal;

typedef int config_check_text(const char *text, const struct config_field *f, struct err *e);
config_check_text config_check_not_empty, config_check_id, config_check_name, config_check_serial, config_check_mount,
	config_check_ip, config_check_ip6, config_check_ipv4, config_check_ipv6, config_check_address,
	config_check_domain, config_check_add_host, config_check_allow, config_check_deny, config_check_publish,
	config_check_host_port, config_check_vsock_path, config_check_cpu_max, config_check_workdir, config_check_user,
	config_check_control, config_check_until;

#endif
