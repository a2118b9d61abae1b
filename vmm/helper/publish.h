/* Ports of the host that passt is to listen on: which are free, and in the form of its arguments. */
#ifndef MF_HELPER_PUBLISH_H
#define MF_HELPER_PUBLISH_H

#include <netinet/in.h>

struct config;
struct config_forward;
struct config_net;
struct err;

/* ADDRESS/FIRST-LAST:FIRST-LAST and a NUL. */
#define PUBLISH_ARGUMENT_MAX (INET6_ADDRSTRLEN + 1 + 4 * 6)

/*
 * Picks free ports of the host for those that were published without one, and prints
 * them. Returns 0 or -errno with e set.
 */
int publish_pick(struct config *c, struct err *e);

/*
 * Whether passt will be able to listen on all ports of n: it takes a port that is free
 * for one family only, or a part of a range, and says nothing. Other errors are its own
 * to report. Returns 0 or -errno with e set.
 */
int publish_check(const struct config_net *n, struct err *e);

/* Writes f as an argument of passt. */
void publish_argument(char text[PUBLISH_ARGUMENT_MAX], const struct config_forward *f);

#endif
