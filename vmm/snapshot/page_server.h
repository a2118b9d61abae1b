/*
 * Guest memory from another process, page by page, when it is touched: userfaultfd(2). The process
 * listens at a Unix socket, and gets one message as Firecracker sends it: a JSON list of the memory's
 * regions (base_host_virt_addr, size, offset in the memory file, page_size), and the descriptor.
 */
#ifndef MF_SNAPSHOT_PAGE_SERVER_H
#define MF_SNAPSHOT_PAGE_SERVER_H

struct err;
struct mem;

/*
 * Hands the pages of m, which is new, to the process that listens at path. From then on, whoever touches a
 * page waits for it. Returns the userfaultfd, which stays open as long as m is used: if that
 * process ends, pages are waited for, and do not become zeros. Or returns -errno with e set. Before the
 * filters.
 */
int page_server_use(const struct mem *m, const char *path, struct err *e);

/* Waits until all pages of m are there: a child process would find zeros in place of the others. */
void page_server_finish(const struct mem *m);

#endif
