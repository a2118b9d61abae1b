/*
 * The books of an ephemeral copy-on-write layer over a drive's image: which sectors are in the
 * layer, and how much it may hold. The data is in a sparse file of the drive's size, in memory or
 * unlinked, which ends with the process.
 *
 * A sector is the unit of every request, so nothing is ever copied from the image. The price is a
 * bit per sector, in memory that is mapped, and touched only where the guest has written: 4 KiB
 * for 16 MiB of the drive.
 *
 * It does no I/O: blk_overlay.c reads and writes the file. All on one thread.
 */
#ifndef MF_VIRTIO_OVERLAY_H
#define MF_VIRTIO_OVERLAY_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>

struct err;
struct overlay;

/* Makes the file of a layer in a directory, without a name. Returns the fd or -errno with e set. */
#define OVERLAY_OPEN (O_TMPFILE | O_EXCL | O_RDWR) /* the flags in fdstore.h */
int overlay_open(const char *dir, struct err *e);

/*
 * For a drive of so many sectors. It holds max_bytes at most, in pages of 4 KiB; 0: as much as the
 * drive. dir is where its file is made; NULL: in memory. Returns 0 or -errno with e set.
 */
int overlay_new(struct overlay **ret, uint64_t sectors, uint64_t max_bytes, const char *dir, struct err *e);

/*
 * The layer of a snapshot (overlay_disk.c). One that is empty needs no file.
 *
 * overlay_write writes a layer into fd, an empty file; where that has nothing, what base has, which is
 * of the same size or NULL. overlay_read opens what it has written, for a drive of so many sectors, and
 * trusts nothing in it. That layer is only read: overlay_run and overlay_fd are for it. The file may
 * have many readers. Both return 0 or -errno with e set.
 */
bool overlay_is_empty(const struct overlay *o);
/*
 * Whether overlay_read takes it, for a drive of as many sectors as it says, and its data has its checksum. Reads all of it.
 * Returns 0 or -errno with e set.
 */
int overlay_check(const char *path, struct err *e);
int overlay_write(const struct overlay *o, const struct overlay *base, int fd, struct err *e);
int overlay_read(struct overlay **ret, const char *path, uint64_t sectors, struct err *e);

/* NULL is fine. */
void overlay_free(struct overlay *o);

/* Its file, owned by it. */
int overlay_fd(const struct overlay *o);

/*
 * How many sectors from sector on, of max (at least 1), are in the same place: in the layer's file
 * (*ret_own), or in the image.
 */
uint64_t overlay_run(const struct overlay *o, uint64_t sector, uint64_t max, bool *ret_own);

/* Takes room for a write of [offset, offset + len), in bytes; before each. Returns 0 or -ENOSPC. */
int overlay_reserve(struct overlay *o, uint64_t offset, uint64_t len);

/* All sectors that end in [offset, offset + len) are in the file; it may begin inside of one. */
void overlay_written(struct overlay *o, uint64_t offset, uint64_t len);

/*
 * A hole was punched there, and no write to the range was in flight meanwhile: its whole pages need
 * no room any more, and other writes may take it.
 */
void overlay_release(struct overlay *o, uint64_t offset, uint64_t len);

#endif
