/* skopeo(1), which knows registries, authentication, mirrors and digests. */
#ifndef MF_IMAGE_SKOPEO_H
#define MF_IMAGE_SKOPEO_H

#include <stdbool.h>
#include <stdint.h>

struct err;
struct image_reference;

#define SKOPEO_DIGEST_MAX 128 /* bytes, with the NUL */

/*
 * The digest of the manifest that a name means now. work: a directory for
 * temporary files, each of file_max bytes at most. Returns 0 or -errno with e set: -ECHILD if skopeo has failed, also when a registry has not answered for half a minute.
 */
int skopeo_digest(const struct image_reference *ref, const char *work, uint64_t file_max,
		  char digest[SKOPEO_DIGEST_MAX], struct err *e);

/*
 * Copies the image of that digest into an OCI layout in the directory work: layout is its
 * name inside of the sandbox. Its layers are compressed by gzip, which umoci knows. show:
 * skopeo shows its progress, if stderr is a terminal. Returns 0 or -errno with e set.
 */
int skopeo_copy(const struct image_reference *ref, const char *digest, const char *work, uint64_t file_max,
		const char *layout, bool show, struct err *e);

#endif
