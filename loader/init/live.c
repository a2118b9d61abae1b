/* Live directories; see live.h. */
#include "loader/init/live.h"

#include <errno.h>
#include <stdint.h>
#include <sys/mount.h>

#include "loader/init/fd.h"
#include "loader/init/link.h"
#include "loader/init/proto.h"
#include "loader/init/text.h"

#define STRING(x) #x
#define DECIMAL(x) STRING(x)

int live_mount(const char *number, const char *path, bool read_only)
{
	/* Writable shared mappings need pages that are kept: cache=mmap. All else goes to the server at once. */
	struct text options = { 0 };
	unsigned long n;
	int fd, ret;

	if (!text_number(number, UINT16_MAX, &n))
		return -EINVAL;
	fd = link_connect(INIT_LIVE_PORT + (uint32_t)n);
	if (fd < 0)
		return fd;
	text_add(&options,
		 "trans=fd,version=9p2000.L,cache=mmap,access=user,uname=root,aname=" INIT_LIVE_EXPORT
		 ",msize=" DECIMAL(INIT_LIVE_MSIZE) ",rfdno=",
		 NULL);
	text_add_number(&options, (unsigned)fd);
	text_add(&options, ",wfdno=", NULL);
	text_add_number(&options, (unsigned)fd);
	ret = mount("live", path, "9p", MS_NODEV | (read_only ? MS_RDONLY : 0), options.s) < 0 ? -errno : 0;
	fd_close(&fd); /* the mount has it */
	return ret;
}
