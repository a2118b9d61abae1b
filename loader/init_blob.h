/* mayfly's init for guests (loader/init), a static Linux program, as part of the monitor. */
#ifndef MF_LOADER_INIT_BLOB_H
#define MF_LOADER_INIT_BLOB_H

#include <stddef.h>
#include <stdint.h>

extern const uint8_t init_blob[];
extern const size_t init_blob_len;

#endif
