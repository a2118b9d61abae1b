/* Connections to the monitor. */
#ifndef MF_INIT_LINK_H
#define MF_INIT_LINK_H

#include <stdint.h>

/*
 * A stream to that port of the host, or -errno. Waits for the host's answer, which comes from the monitor that runs this
 * machine: at once, and after 2 seconds at most (the kernel's own limit).
 */
int link_connect(uint32_t port);

#endif
