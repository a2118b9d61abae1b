/*
 * Unpacks the archive that the guest sends for an artifact: what loader/init/tar.c writes, and nothing that tar(1) can do
 * besides. It is hostile input: the process that calls this is confined before (artifact.c).
 */
#ifndef MF_HELPER_UNTAR_H
#define MF_HELPER_UNTAR_H

#include <stdint.h>

struct err;

struct untar_params {
	int from;	      /* a stream that blocks; read to its end */
	int dir;	      /* an empty directory, where it is unpacked */
	const char *name;     /* that every member's name begins with; "." if they are to be in dir itself */
	uint64_t max_bytes;   /* of the archive, and of each file with its holes */
	uint64_t max_members; /* files, directories and links in all */
};

/*
 * The member that is called name is a file or a directory; in a directory, there may also be symbolic links, which are
 * never followed, and hard links to files that were unpacked before. Modes have no set-id and sticky bits, and of a
 * directory they let its owner do anything. Devices, FIFOs and sockets are left out. An archive without its end, or with
 * any other kind of member, is refused. Returns 0, with e set to a sentence if something was left out, or -errno with e
 * set; names from the guest are in both. What was unpacked by then stays. Makes no other system calls than unpack_rules
 * has (vmm/filters/rules.h).
 */
int untar(const struct untar_params *params, struct err *e);

#endif
