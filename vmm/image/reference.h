/* The name of an image of a container, as users of docker, podman and skopeo write it. */
#ifndef MF_IMAGE_REFERENCE_H
#define MF_IMAGE_REFERENCE_H

#include <stdbool.h>

struct err;

#define REFERENCE_MAX 1024 /* bytes */

enum reference_kind {
	REFERENCE_REGISTRY,
	REFERENCE_FILES,  /* a layout or an archive: a directory or a file of the host */
	REFERENCE_DAEMON, /* docker's, by its socket */
	REFERENCE_STORAGE /* podman's */
};

struct image_reference {
	enum reference_kind kind;
	char *text; /* TRANSPORT:REST, as skopeo(1) reads it; a path in it is absolute */
	char *path; /* of REFERENCE_FILES: the directory or file; else NULL */
};

/* Whether the word is the path of a root, and no image: it begins with '/' or '.'. */
bool image_reference_is_path(const char *word);

/*
 * Parses a name: TRANSPORT:REST with one of skopeo's transports, or the name of an image
 * in a registry, for example "alpine:3.20". A registry is not asked, but a path must
 * exist. Returns 0 or -errno with e set; image_reference_done frees the result.
 */
int image_reference_parse(const char *word, struct image_reference *ret, struct err *e);
void image_reference_done(struct image_reference *r);

/*
 * The same image by its digest ("sha256:..."), so that it is that one whatever the tag
 * means by now: a new string, or NULL if memory is short. For REFERENCE_REGISTRY; others
 * stay as they are.
 */
char *image_reference_at(const struct image_reference *r, const char *digest);

#endif
