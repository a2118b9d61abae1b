/*
 * Descriptors: how many a VM needs. Each connection that the guest opens takes one, so their number is limited such that
 * what the VM itself opens never finds none left.
 */
#ifndef MF_VM_NOFILE_H
#define MF_VM_NOFILE_H

struct config;
struct err;

/* What c needs, with the few connections that a guest has in any case. */
unsigned nofile_needed(const struct config *c);

/*
 * Raises the soft limit (RLIMIT_NOFILE) as far as c can use it, and sets *ret_conns to how many connections of its vsock are
 * left then. Returns 0, or -EMFILE with e set, which names the number, if the hard limit is below what c needs.
 */
int nofile_raise(const struct config *c, unsigned *ret_conns, struct err *e);

#endif
