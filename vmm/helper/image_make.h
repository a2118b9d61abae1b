/* Programs of the host that make an image. */
#ifndef MF_HELPER_IMAGE_MAKE_H
#define MF_HELPER_IMAGE_MAKE_H

#include <stdbool.h>
#include <stdint.h>

struct err;
struct image_cache;

struct image_make {
	const struct image_cache *cache;
	const char *shown;     /* the source, as messages have it, */
	const char *source;    /* and as the cache's list has it */
	uint64_t files, bytes; /* that are packed */
	const char **argv;     /* of the program that writes the image, */
	const char **out;      /* and the one of them that becomes the file to write to */
	const char *package;   /* to install if it is missing */
	/* Of a program whose output is the other's input, or NULL: */
	const char *const *feeder;
	const char *feeder_package;
	int stdin_fd; /* of the first program, or -1 */
	bool archive; /* that is one of the user's: see archive_bound.h */
};

/*
 * Makes the image of that name, and puts it into the cache. Says on stderr that it packs,
 * if there are files: if that takes long meanwhile, else at the end. Returns 0 or -errno
 * with e set: -ECHILD if a program has failed, with its last line. Main thread, before
 * the process has others.
 */
int image_make(const struct image_make *m, const char *name, struct err *e);

#endif
