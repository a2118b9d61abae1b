/* The network, as the boot text has it. */
#ifndef MF_INIT_NET_H
#define MF_INIT_NET_H

#include <stdbool.h>
#include <stddef.h>

#include "loader/init/text.h"

/*
 * Sets the host name and brings up lo, and eth0 if it has an address. On failure returns
 * false and sets why.
 */
bool net_start(const char *boot, size_t len, struct text *why);
/* Whether the boot text has an address for eth0. */
bool net_is_wanted(const char *boot, size_t len);
/* Lets programs resolve the name server's, localhost's and the guest's own name. */
void net_set_names(const char *boot, size_t len, bool root_is_ephemeral);

#endif
