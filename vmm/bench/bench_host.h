/*
 * Facts of the host without which a measurement means little. A fact that cannot be read is "",
 * or 0. All texts are printable.
 */
#ifndef MF_BENCH_BENCH_HOST_H
#define MF_BENCH_BENCH_HOST_H

#include <stdbool.h>
#include <stddef.h>

#define BENCH_HOST_TEXT 96

struct bench_host {
	char cpu[BENCH_HOST_TEXT];    /* its model */
	char kernel[BENCH_HOST_TEXT]; /* uname -r */
	unsigned cpus;		      /* that are online */
	unsigned hz;		      /* CONFIG_HZ */
	const char *kvm;	      /* "intel", "amd", "pv" */
	bool nested;		      /* the host is a virtual machine */
	char thp[BENCH_HOST_TEXT];    /* transparent huge pages: always, madvise or never */
};

/* Reads them below root, which is "" but in tests. */
void bench_host_read(struct bench_host *ret, const char *root);

/*
 * Calls each with every vulnerability of the CPU that the kernel knows, and its state: "Not
 * affected", "Mitigation: ...", "Vulnerable". In the order of their names.
 */
void bench_host_mitigations(const char *root, void (*each)(void *ctx, const char *name, const char *state), void *ctx);

#endif
