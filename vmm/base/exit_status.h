/*
 * The exit statuses of mayfly, as mayfly(1) has them:
 *
 *	status  meaning
 *	0 ..    with a COMMAND: its own status, 128 + the signal that ended it, 126 or 127 if it could not be run
 *	0       without: the guest powered off or rebooted
 *	1       of `mayfly doctor` alone: this host runs no guests
 *	101     the guest kernel panicked
 *	102     the guest crashed: a triple fault that was not its way to reboot
 *	103     KVM ended the guest: an exit that mayfly does not handle, or an internal error of KVM
 *	104     the guest stopped for good: every vCPU halted with interrupts off
 *	105     a thread of mayfly made a system call that its seccomp filter forbids; mayfly ended without making it
 *	124     the time limit passed
 *	125     mayfly failed, before the guest ran or while it ran; or the guest ended before the COMMAND did
 *	128+n   signal n ended mayfly (143: SIGTERM, 130: SIGINT). If something did not end in time, the line on
 *		stderr says so
 *
 * mayfly dies of that signal itself, so that a supervisor sees it, and a shell shows 128+n.
 * Inside of mayfly such a status is -n.
 *
 * Every status but 0 comes with one line on stderr that starts with "mayfly: " and gives
 * the reason.
 */
#ifndef MF_BASE_EXIT_STATUS_H
#define MF_BASE_EXIT_STATUS_H

enum status {
	STATUS_OK = 0,
	STATUS_UNUSABLE = 1,
	STATUS_GUEST_PANIC = 101,
	STATUS_GUEST_CRASH = 102,
	STATUS_KVM_EXIT = 103,
	STATUS_GUEST_HALT = 104,
	STATUS_SECCOMP = 105,
	STATUS_TIMEOUT = 124,
	STATUS_FAILED = 125,
	STATUS_SIGNAL_BASE = 128, /* plus the signal's number */
};

#endif
