/* The I/O APIC, in user space: a few edge-triggered pins, each translated to an MSI by its redirection entry. */
#ifndef MF_PLATFORM_IOAPIC_H
#define MF_PLATFORM_IOAPIC_H

#include <stdbool.h>
#include <stdint.h>

struct err;
struct ioapic;
struct loop;
struct state_in;
struct state_section;
struct state_out;

#define IOAPIC_GPA 0xfec00000U
#define IOAPIC_LEN 0x1000U
#define IOAPIC_PINS_MAX 120 /* IOREGSEL has 8 bits: 0x10 + 2 * 120 = 0x100 */

/* Sends an MSI to the local APICs; less than 0 is an error. Called on the thread that raises, and on the loop. */
typedef int ioapic_send(void *ctx, uint32_t address, uint32_t data);

/* Makes an I/O APIC with pins 0 to pins - 1, all masked. Returns 0 or -errno with e set. */
int ioapic_new(struct ioapic **ret, unsigned pins, ioapic_send *send_msi, void *ctx, struct err *e);

/* After the loop has stopped. NULL is fine. */
void ioapic_free(struct ioapic *a);

/*
 * Makes loop deliver interrupts that became pending while their pin was masked: a vCPU
 * that unmasks may not send MSIs itself. Once, before loop_start. Returns 0 or -EMFILE.
 */
int ioapic_attach_loop(struct ioapic *a, struct loop *loop);

/* The eventfd that a vCPU thread writes when it unmasks a pending pin (for the vCPUs' seccomp filter). */
int ioapic_event_fd(const struct ioapic *a);

/* The registers: a bus_handler for [IOAPIC_GPA, IOAPIC_GPA + IOAPIC_LEN). vCPU threads, several at once. */
void ioapic_access(void *ctx, uint64_t offset, bool is_write, uint8_t *data, unsigned len);

/*
 * Snapshots. Main thread, with every vCPU parked.
 *
 * ioapic_quiet: from here on no MSI is sent, so that the state of the local APICs, whenever it is read,
 * and that of the I/O APIC have each interrupt once. Edges wait at their pins. Call it before devices
 * become quiet, which then have no interrupt under way either. ioapic_resume sends what waits.
 *
 * ioapic_save writes the registers and the interrupts that wait. ioapic_restore reads them, and the
 * I/O APIC is quiet; it returns 0, or -errno with e set. Call ioapic_resume when the local APICs are
 * restored, too.
 */
extern const struct state_section ioapic_section; /* for state_check_sections */
void ioapic_quiet(struct ioapic *a);
void ioapic_save(struct ioapic *a, struct state_out *out);
int ioapic_restore(struct ioapic *a, struct state_in *in, struct err *e);
void ioapic_resume(struct ioapic *a);

/* An edge on a pin (below the number given to ioapic_new). Any thread that may send MSIs: not a vCPU. */
void ioapic_raise(struct ioapic *a, unsigned pin);

/* The same for any thread: the loop sends the MSI, soon. */
void ioapic_ask(struct ioapic *a, unsigned pin);

#endif
