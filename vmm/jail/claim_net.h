/* The descriptors of network interfaces that a client of a pool brings for its VM. */
#ifndef MF_JAIL_CLAIM_NET_H
#define MF_JAIL_CLAIM_NET_H

struct config_net;
struct err;

/* For the client: opens a tap, or copies the descriptor that it has. Returns it, or -errno with e set. */
int claim_net_open(const struct config_net *n, struct err *e);

/* For the VM: whether fd, of the client, is what n says. Returns 0 or -errno with e set. */
int claim_net_check(const struct config_net *n, int fd, struct err *e);

#endif
