/*
 * Programs that read an image, which is hostile: each in a sandbox of bubblewrap, that
 * ends with mayfly. It has /usr, a directory to work in, and what is added. It has no
 * capabilities, sees no other processes, and only skopeo has a network.
 *
 * For an ordinary user, files of an image have the ids that are subordinate to this user
 * (subuid(5)): unshare(1) makes a user namespace with them around the sandbox.
 */
#ifndef MF_IMAGE_SANDBOX_H
#define MF_IMAGE_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

#define SANDBOX_ARGS_MAX 160
#define SANDBOX_WORK "/work" /* the directory's name inside */

struct sandbox {
	const char *argv[SANDBOX_ARGS_MAX + 1];
	unsigned num;
	const char *program, *package; /* that it is for, and that has it */
	int out;		       /* the program's stdout, or -1 */
	uint64_t file_max;
	char limit[32]; /* of its files, as an option */
	bool said_lost; /* it has said more than there was room for */
};

/*
 * Begins one that has the ids of the image, and no network; or this user's, and the
 * network. work: the directory.
 */
void sandbox_begin_ids(struct sandbox *s, const char *program, const char *package, const char *work);
void sandbox_begin_network(struct sandbox *s, const char *program, const char *package, const char *work);

/*
 * Adds arguments of bwrap, until sandbox_program, then of the program. NULL ends the list. file_max: bytes of a
 * file that the program writes; 0: no limit.
 */
void sandbox_add(struct sandbox *s, ...) __attribute__((sentinel));
void sandbox_program(struct sandbox *s, uint64_t file_max);

/*
 * Runs it to its end. said gets the end of what it says on stderr, which may be without
 * bound: half of size at least, if it was more (said_lost). Returns 0, or
 * -errno with e set: -ECHILD if it has failed, with its last line. One thread only.
 */
int sandbox_run(struct sandbox *s, char *said, size_t size, struct err *e);

/* Removes a directory with files of the image's ids. What fails is left, for the next time. */
void sandbox_remove(const char *path);

#endif
