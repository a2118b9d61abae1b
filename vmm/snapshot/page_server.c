/* Guest memory from another process; see page_server.h. */
#include "vmm/snapshot/page_server.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/unix_socket.h"
#include "vmm/base/util.h"
#include "vmm/core/mem.h"

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00) /* of /dev/userfaultfd, Linux 6.1 */
#endif

#define REGION_TEXT_MAX 160

/* The device is for processes that may not make the call: a jail's, or a user's. Returns the descriptor or -errno. */
static int open_uffd(void)
{
	MF_CLOSE int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	int fd = device < 0 ? -1 : ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

/* EVENT_REMOVE is what Firecracker asks for; mayfly gives no page back, so no such event comes. */
static int register_pages(int uffd, const struct mem *m, struct err *e)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_EVENT_REMOVE };
	struct uffdio_register pages = { .range = { (uintptr_t)m->region[0].host, m->size },
					 .mode = UFFDIO_REGISTER_MODE_MISSING };

	if (ioctl(uffd, UFFDIO_API, &api) < 0 || ioctl(uffd, UFFDIO_REGISTER, &pages) < 0)
		return err_sys(e, "register the memory with userfaultfd");
	return 0;
}

static int send_regions(int socket, int uffd, const struct mem *m, struct err *e)
{
	char text[MEM_REGIONS_MAX * REGION_TEXT_MAX];
	struct iovec iov = { text, 0 };
	uint64_t offset = 0;
	int r;

	for (unsigned i = 0; i < m->num_regions; i++) {
		const struct mem_region *region = &m->region[i];

		iov.iov_len += (size_t)snprintf(text + iov.iov_len, sizeof(text) - iov.iov_len,
						"%c{\"base_host_virt_addr\":%" PRIuPTR ",\"size\":%" PRIu64
						",\"offset\":%" PRIu64 ",\"page_size\":%u,\"page_size_kib\":%u}",
						i ? ',' : '[', (uintptr_t)region->host, region->size, offset,
						MF_PAGE_SIZE, MF_PAGE_SIZE); /* both are bytes */
		offset += region->size;
	}
	text[iov.iov_len++] = ']';
	r = fdio_send_packet(socket, &iov, 1, &uffd, 1, MSG_NOSIGNAL);
	return r < 0 ? err_neg(e, r, "send the memory's regions") : 0;
}

int page_server_use(const struct mem *m, const char *path, struct err *e)
{
	MF_CLOSE int uffd = open_uffd();
	int socket;

	if (uffd < 0)
		return err_neg(e, uffd, "userfaultfd(2) (as root, or by vm.unprivileged_userfaultfd)");
	if (register_pages(uffd, m, e) < 0)
		return e->code;
	socket = strlen(path) <= UNIXNAME_MAX ? unix_socket_connect(path, SOCK_STREAM) : -ENAMETOOLONG;
	if (socket < 0)
		return err_neg(e, socket, "connect to it");
	/* On success it stays open: the other side takes its end for ours. */
	if (send_regions(socket, uffd, m, e) < 0) {
		close(socket);
		return e->code;
	}
	return mf_take_fd(&uffd);
}

void page_server_finish(const struct mem *m)
{
	for (uint64_t at = 0; at < m->size; at += MF_PAGE_SIZE)
		(void)*(volatile const uint8_t *)(m->region[0].host + at);
}
