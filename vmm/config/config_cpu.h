/* A CPU template: what a vCPU has otherwise than by default, before the guest runs. Of Firecracker's API. */
#ifndef MF_CONFIG_CONFIG_CPU_H
#define MF_CONFIG_CONFIG_CPU_H

#include <stdint.h>

enum config_register { CONFIG_EAX, CONFIG_EBX, CONFIG_ECX, CONFIG_EDX };

/* The bits of mask become those of value. */
struct config_cpuid_change {
	uint32_t leaf, subleaf, flags; /* flags: KVM_CPUID_FLAG_..., all three of an entry that there is */
	enum config_register reg;
	uint32_t mask, value;
};

struct config_msr_change {
	uint32_t msr;
	uint64_t mask, value;
};

struct config_cpu {
	struct config_cpuid_change *cpuid;
	unsigned num_cpuid;
	struct config_msr_change *msr;
	unsigned num_msrs;
	uint32_t *capability; /* KVM_CAP_..., which the host must have */
	unsigned num_capabilities;
};

#endif
