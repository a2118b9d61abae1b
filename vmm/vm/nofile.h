/*
 * How many file descriptors a VM needs. Each connection that the guest opens takes one. Their number is limited, so that
 * the VM itself never runs out of descriptors.
 */
#ifndef MF_VM_NOFILE_H
#define MF_VM_NOFILE_H

struct config;
struct err;

/* What c needs, with the minimum of connections that every guest gets. */
unsigned nofile_needed(const struct config *c);

/*
 * Raises the soft limit (RLIMIT_NOFILE) as far as c can use it. Sets *ret_conns to how many vsock connections the guest may
 * have. Returns 0, or -EMFILE with e set to the number that c needs if the hard limit is below it.
 */
int nofile_raise(const struct config *c, unsigned *ret_conns, struct err *e);

#endif
