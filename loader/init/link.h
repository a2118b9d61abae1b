/* Connections to the monitor. */
#ifndef MF_INIT_LINK_H
#define MF_INIT_LINK_H

#include <stdint.h>

/*
 * Connects a stream to that port of the host; returns it or -errno. Waits for the host's
 * answer. The monitor of this machine answers at once; the kernel's own limit is 2
 * seconds. It tries twice, since a restore of the machine can end the first attempt.
 */
int link_connect(uint32_t port);

/*
 * The kernel resets all connections of a restored machine, one after the other. If a first one is
 * reset, all are when this returns.
 */
void link_settle(void);

#endif
