/*
 * What an image says of the command that is run from it: the "config" of OCI's image
 * configuration (image-spec 1.1, config.md). It is hostile input.
 */
#ifndef MF_IMAGE_IMAGE_CONFIG_H
#define MF_IMAGE_IMAGE_CONFIG_H

struct config;
struct err;
struct json_t;

/*
 * Checks the whole configuration of an image: its platform is this one's, and the members
 * of its "config" have their types. Returns a new reference to the "config", an object,
 * which may be empty; or NULL with e set.
 */
struct json_t *image_config_check(struct json_t *image, struct err *e);

/*
 * Adds what the image says to what the user has said, who wins: ENTRYPOINT in front of
 * the command, which replaces CMD; ENV in front of the environment; WORKDIR; USER; STOPSIGNAL; with
 * --publish-all, EXPOSE. VOLUME needs nothing: all of a root can be written to, and its
 * changes end with the VM. Returns 0 or -errno with e set.
 */
int image_config_apply(const struct json_t *config, struct config *c, struct err *e);

#endif
