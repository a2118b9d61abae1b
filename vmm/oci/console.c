/* The terminal of a container; see console.h. */
#include "vmm/oci/console.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/util.h"
#include "vmm/oci/spec.h"

static int send_master(const char *path, int master, struct err *e)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	MF_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char name[] = "/dev/ptmx"; /* as runc's; a stream needs a byte to carry a descriptor */
	const struct iovec iov = { .iov_base = name, .iov_len = sizeof(name) - 1 };
	int r;

	if (strlen(path) >= sizeof(address.sun_path))
		return err_set(e, -ENAMETOOLONG, "is longer than a socket's name can be");
	strcpy(address.sun_path, path);
	if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return err_sys(e, "connect to it");
	r = fdio_send_packet(fd, &iov, 1, &master, 1, 0);
	return r < 0 ? err_neg(e, r, "send it the terminal") : 0;
}

int console_attach(const char *path, const struct spec *s, struct err *e)
{
	const struct winsize size = { .ws_row = (unsigned short)s->rows, .ws_col = (unsigned short)s->columns };
	MF_CLOSE int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	MF_CLOSE int slave = -1;
	int unlock = 0;

	if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) < 0)
		return err_sys(e, "make a terminal");
	slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0 || ioctl(slave, TIOCSCTTY, 0) < 0)
		return err_sys(e, "open a terminal");
	if (size.ws_row && size.ws_col && ioctl(slave, TIOCSWINSZ, &size) < 0)
		return err_sys(e, "size a terminal");
	if (send_master(path, master, e) < 0)
		return err_wrap(e, "console socket '%s'", path);
	for (int i = 0; i < 3; i++)
		if (dup2(slave, i) < 0)
			return err_sys(e, "copy a descriptor");
	return 0;
}
