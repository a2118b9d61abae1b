/* Traffic control of Linux, by netlink: what `tc qdisc` and `tc filter` do. */
#ifndef MF_OCI_TC_H
#define MF_OCI_TC_H

struct err;

/*
 * All frames that come in at interface from are sent out at interface to, both by their indices; what was set before for
 * incoming frames is replaced. Returns 0 or -errno with e set.
 */
int tc_redirect(int from, int to, struct err *e);

#endif
