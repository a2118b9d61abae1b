/* Files that were opened in advance; see fdstore.h. */
#include "vmm/base/fdstore.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/err.h"

static struct {
	struct {
		const char *name;
		int how, fd; /* -1: taken */
	} file[FILES_MAX];
	unsigned num;
	bool in_use;
} files;

int fdstore_provide(const char *name, int how, int fd, struct err *e)
{
	if (files.num == FILES_MAX) {
		close(fd);
		return err_set(e, -EMFILE, "more than %d files", FILES_MAX);
	}
	files.file[files.num].name = name;
	files.file[files.num].how = how;
	files.file[files.num++].fd = fd;
	return 0;
}

void fdstore_use(void)
{
	files.in_use = true;
}

int fdstore_take(const char *name, int how)
{
	for (unsigned i = 0; files.in_use && i < files.num; i++) {
		int fd = files.file[i].fd;

		if (fd < 0 || files.file[i].how != how || strcmp(files.file[i].name, name) != 0)
			continue;
		files.file[i].fd = -1;
		return fd;
	}
	return -1;
}

unsigned fdstore_list(int *fds)
{
	unsigned num = 0;

	for (unsigned i = 0; i < files.num; i++)
		if (files.file[i].fd >= 0)
			fds[num++] = files.file[i].fd;
	return num;
}

void fdstore_close(void)
{
	for (unsigned i = 0; i < files.num; i++) {
		if (files.file[i].fd >= 0)
			close(files.file[i].fd);
		files.file[i].fd = -1;
	}
}
