/* The names of causes; see end_cause.h. */
#include "vmm/base/end_cause.h"

const char *end_cause_name(enum end_cause cause)
{
	static const char *const names[END_NUM_CAUSES] = {
		[END_FAILED] = "failed", [END_COMMAND] = "command",   [END_SIGNALLED] = "signalled",
		[END_OOM] = "oom",	 [END_POWEROFF] = "poweroff", [END_REBOOT] = "reboot",
		[END_PANIC] = "panic",	 [END_CRASH] = "crash",	      [END_HALT] = "halt",
		[END_KVM] = "kvm",	 [END_TIMEOUT] = "timeout",   [END_SIGNAL] = "signal",
		[END_USER] = "user",	 [END_KILLED] = "killed",     [END_LOST] = "lost",
		[END_BOOT] = "boot",
	};

	return names[(unsigned)cause < END_NUM_CAUSES ? cause : END_FAILED];
}
