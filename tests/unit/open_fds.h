/* How many descriptors are open: the same before and after what is to leave none. */
#ifndef MF_TESTS_UNIT_OPEN_FDS_H
#define MF_TESTS_UNIT_OPEN_FDS_H

#include <fcntl.h>

#define OPEN_FDS_LOOKED_AT 1024

static inline unsigned open_fds(void)
{
	unsigned num = 0;

	for (int fd = 0; fd < OPEN_FDS_LOOKED_AT; fd++)
		num += fcntl(fd, F_GETFD) >= 0;
	return num;
}

#endif
