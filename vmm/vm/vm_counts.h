/* Counters of a VM while it runs, for the metrics of Firecracker's API. Main thread. */
#ifndef MF_VM_VM_COUNTS_H
#define MF_VM_VM_COUNTS_H

#include <stdbool.h>
#include <stdint.h>

struct json_t;
struct vm;

/* Each returns false if there is no i. The names live as long as the VM. */

/* Of device i: requests and bytes to the guest, and from it. Networks count frames. */
bool vm_device_counts(struct vm *vm, unsigned i, const char **ret_id, const char **ret_kind, uint64_t counts[4]);

/* KVM's counters of all vCPUs together, as they were when i was 0; none if timeline->about is NULL. */
bool vm_kvm_counter(struct vm *vm, unsigned i, const char **ret_name, uint64_t *ret);

/* When step i of the start was reached, in ns since exec; 0 if it was not. */
bool vm_phase(struct vm *vm, unsigned i, const char **ret_name, uint64_t *ret_ns);

/*
 * The latencies of device i: of all requests of a drive, and of what the guest sends to another one. counts has room for 33: counts[k] requests
 * took less than 1 << k units of *ret_unit seconds, and the last any time; the sum of all, in units, follows. Returns how many
 * counts there are, or 0.
 */
unsigned vm_latency(struct vm *vm, unsigned i, uint64_t *counts, double *ret_unit);

/* How long vCPU i has waited for a CPU of the host. False also if that is not known. */
bool vm_steal(struct vm *vm, unsigned i, uint64_t *ret_ns);

/* timeline_json, with KVM's counters as they are now. */
struct json_t *vm_timeline(struct vm *vm);

#endif
