/*
 * The virtio-mmio transport, version 2 (virtio 1.2 §4.2): the register window of one device, its status machine, its
 * ioeventfds and its interrupt line.
 */
#ifndef MF_VIRTIO_MMIO_H
#define MF_VIRTIO_MMIO_H

#include <stdbool.h>
#include <stdint.h>

struct err;
struct kvm;
struct mmio;
struct state_in;
struct state_section;
struct state_out;
struct virtio_dev;

#define MMIO_WINDOW_SIZE 0x1000U

/*
 * Where the transport's interrupts go. raise is called on the device's loop and on vCPU threads. attention (kept, may be
 * NULL) is the device's word in guest memory (docs/guest-interface.md).
 */
struct mmio_irq {
	void (*raise)(void *ctx, unsigned line);
	void *ctx;
	unsigned line;
	uint32_t *attention;
};

/*
 * Puts dev (kept, not owned) behind a register window at gpa, and adds its queue notifications to dev->loop, which does
 * not run yet. kvm (kept) may be NULL: notifications then come only through mmio_access. Returns 0 or -errno with e set.
 */
int mmio_new(struct mmio **ret, struct virtio_dev *dev, const struct kvm *kvm, uint64_t gpa, struct mmio_irq irq,
	     struct err *e);

/* Call it after the device's reset or the end of its loop, and before ops->free. Accepts NULL. */
void mmio_free(struct mmio *mmio);

/* A guest access to the window; a bus_handler with ctx = the struct mmio. vCPU threads, several at once. */
void mmio_access(void *ctx, uint64_t offset, bool is_write, uint8_t *data, unsigned len);

/* Resets the device as a write of 0 to Status does, e.g. before the VM ends. Not on the loop's thread. */
void mmio_reset(struct mmio *mmio);

/*
 * Snapshots (mmio_save.c). Main thread, with every vCPU parked.
 *
 * mmio_quiet: the device takes nothing from its queues, and what is in flight ends. 0: nothing is in
 * flight, and no guest memory changes until mmio_resume. -ETIMEDOUT with e set: a request has not
 * ended after timeout_ms. mmio_resume must follow in both cases.
 *
 * mmio_save: writes the state of the transport, the queues and the device, which is quiet.
 *
 * mmio_restore: reads it into a transport and a device that have just been made. Every value passes
 * the checks that the driver's writes pass. The device is quiet afterwards. Returns 0, or -errno
 * with e set and the device to be freed.
 *
 * mmio_resume: undoes mmio_quiet. All queues are kicked, and an interrupt that the driver has not
 * acknowledged is raised again. After a restore, call it when the interrupt controllers are restored.
 */
extern const struct state_section mmio_section; /* for state_check_sections */
int mmio_quiet(struct mmio *mmio, unsigned timeout_ms, struct err *e);
void mmio_resume(struct mmio *mmio);
void mmio_save(struct mmio *mmio, struct state_out *out);
int mmio_restore(struct mmio *mmio, struct state_in *in, struct err *e);

/* For devices, on their loop. */

/* Something was pushed to queue index: at the end of this turn, interrupts the driver if it wants that. */
void mmio_used(struct virtio_dev *dev, unsigned index);

/*
 * As mmio_used, but without an interrupt of its own: the next one of the device, for another reason, serves this queue,
 * too. The device limits how long that may take.
 */
void mmio_used_later(struct virtio_dev *dev, unsigned index);

/*
 * The driver broke the protocol: DEVICE_NEEDS_RESET and a configuration interrupt (§2.1.2). The
 * queues give nothing more until reset. Further calls do nothing.
 */
void mmio_broken(struct virtio_dev *dev, const char *why);

/* The configuration space has changed: new ConfigGeneration and a configuration interrupt. */
void mmio_config_changed(struct virtio_dev *dev);

/* What the driver makes of it: "idle", "active", or "broken" until the driver resets it. Any thread. */
const char *mmio_state_name(const struct mmio *m);

#endif
