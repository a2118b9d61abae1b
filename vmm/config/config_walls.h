/*
 * The walls of user networks: what their guests may reach. The rules come from allow, deny and
 * host= of the configuration, and from what is closed unless it is opened.
 */
#ifndef MF_CONFIG_CONFIG_WALLS_H
#define MF_CONFIG_CONFIG_WALLS_H

#include <stdbool.h>

#include "virtio/net_filter.h"
#include "vmm/config/config.h"

#define CONFIG_RULE_NETS_MAX 5 /* of "private" */
/* Nets, name servers, and ports of the host at two gateways; and what is built in. */
#define CONFIG_WALLS_MAX (CONFIG_TEXTS_MAX * (2 * CONFIG_RULE_NETS_MAX + 3) + 48)

struct config_walls {
	unsigned num;
	struct net_rule rule[CONFIG_WALLS_MAX];
};

/*
 * Parses NET[:PORTS], such as 10.0.0.0/8, 192.0.2.1:443, [fd00::/8]:80-90, private:22 or all.
 * Sets the rules from ret on, and returns how many they are, or -errno with e set.
 */
int config_rule_parse(struct net_rule ret[CONFIG_RULE_NETS_MAX], const char *text, bool allow, struct err *e);

/*
 * Collects the rules for the guest of n, a user network of c, in the order of net_filter.h. c was
 * checked (config_check). Reads the host's resolv.conf if passt gives the guest its name servers.
 */
void config_walls_collect(struct config_walls *w, const struct config *c, const struct config_net *n);

/*
 * Whether passt must lead the guest from its gateway to the host's loopback: for ports of the
 * host, for a resolver at the gateway, and for answers to published UDP ports, which passt of
 * 2023 sends on that way. If so, the rules alone are the wall there.
 */
bool config_walls_map_gateway(const struct config_net *n);

#endif
