/* What a guest resolves names with: name servers, and lines for /etc/hosts. */
#ifndef MF_CONFIG_CONFIG_NAMES_H
#define MF_CONFIG_CONFIG_NAMES_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>

struct config;

/*
 * Splits NAME:ADDRESS, as docker's --add-host, or NAME=ADDRESS; an IPv6 address may have
 * brackets. Sets the length of the name; the address; and, if that is "host-gateway",
 * *ret_gateway. Returns 0 or -EINVAL.
 */
int config_split_host(const char *text, size_t *ret_name, char address[INET6_ADDRSTRLEN], bool *ret_gateway);

/* The first default gateway of the guest, IPv4, or NULL. */
const char *config_gateway(const struct config *c);

/* Whether dns is an address at which passt serves the host's resolver. NULL is none. */
bool config_is_host_resolver(const char *dns);

#endif
