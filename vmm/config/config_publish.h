/* Ports of the host that a user network forwards to the guest: --publish, and tcp= and udp= of an interface. */
#ifndef MF_CONFIG_CONFIG_PUBLISH_H
#define MF_CONFIG_CONFIG_PUBLISH_H

#include <stdbool.h>

struct config;
struct config_forward;
struct config_net;
struct err;

#define CONFIG_FORWARD_TEXT_MAX 95U /* bytes */

/*
 * Parses tcp= (udp: udp=) of an interface: [ADDRESS:]HOST_PORT[:GUEST_PORT], as docker
 * writes it, or [ADDRESS/]HOST_PORT[:GUEST_PORT], as passt does. A port may be a range,
 * FIRST-LAST. Without an address, passt listens on all of them. Returns 0, or -errno with
 * e set. The caller owns ret->text.
 */
int config_forward_parse(struct config_forward *ret, bool udp, const char *text, struct err *e);

/*
 * Parses --publish: the same, "/udp" or "/tcp" may follow, and the default address is
 * 127.0.0.1. GUEST_PORT alone, as docker has it, gets a free port of the host.
 */
int config_publish_parse(struct config_forward *ret, const char *text, struct err *e);

/*
 * Gives the published ports of c to its first user interface. Adds that interface if
 * there is none at all. Then checks that no port is forwarded twice. Returns 0 or -errno
 * with e set.
 */
int config_complete_publish(struct config *c, struct err *e);

/* Adds f, which text (copied) was parsed to, to n. Returns 0 or -errno with e set. */
int config_forward_add(struct config_net *n, const struct config_forward *f, const char *text, struct err *e);

#endif
