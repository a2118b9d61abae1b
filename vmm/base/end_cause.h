/* Why a VM has ended, as records (vmm/records/record.h) and results name it. */
#ifndef MF_BASE_END_CAUSE_H
#define MF_BASE_END_CAUSE_H

enum end_cause {
	END_FAILED,    /* "failed": mayfly failed, or the guest's init could not run the command */
	END_COMMAND,   /* "command": the command has ended; the code is its own */
	END_SIGNALLED, /* "signalled": a signal in the guest has ended it; the code is 128 + that */
	END_OOM,       /* "oom": SIGKILL has ended it, or the VM in its jail, for lack of memory */
	END_POWEROFF,  /* "poweroff": the guest switched itself off, or halted */
	END_REBOOT,    /* "reboot" */
	END_PANIC,     /* "panic": the guest kernel's */
	END_CRASH,     /* "crash": a triple fault */
	END_HALT,      /* "halt": every vCPU halted with interrupts off */
	END_KVM,       /* "kvm": KVM ended the guest */
	END_BOOT,      /* "boot": the guest did not start the command in time (--boot-timeout) */
	END_TIMEOUT,   /* "timeout": of --timeout */
	END_SIGNAL,    /* "signal": mayfly ended on one */
	END_USER,      /* "user": keys on a terminal */
	END_KILLED,    /* "killed": a crash of mayfly, or SIGKILL */
	END_LOST,      /* "lost": its process is gone and has not said how */
	END_NUM_CAUSES,
};

/* The word above. A number that is no cause, as a compromised VM could send it, is "failed". */
const char *end_cause_name(enum end_cause cause);

#endif
