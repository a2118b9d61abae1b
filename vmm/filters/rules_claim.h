/*
 * The system calls of the thread that waits for the client of a pool's member whose guest runs (vmm/cmd/member.c); see rules.h.
 *
 * It is in one recvmsg until the client comes, and ends with the claim: before the client's command starts, nobody can do any
 * more what only this list allows. It opens what exists, and makes nothing but the file of a record.
 */
#ifndef MF_VMM_FILTERS_RULES_CLAIM_H
#define MF_VMM_FILTERS_RULES_CLAIM_H

#include "vmm/filters/rules.h"

static const struct filter_rule claim_rules[] = {
	ALLOW(recvmsg, "a client; its claim", INT(3, MSG_CMSG_CLOEXEC)),
	ALLOW(setsockopt, "how long that may take", INT(2, SOL_SOCKET), INT(3, SO_RCVTIMEO)),
	ALLOW(dup2, "its stdin becomes ours", INT(2, STDIN_FILENO)),
	ALLOW(dup2, "the same of stdout", INT(2, STDOUT_FILENO)),
	ALLOW(dup2, "the same of stderr", INT(2, STDERR_FILENO)),
	ALLOW(dup3, "the log goes there", SLOT(2, SLOT_LOG), INT(3, O_CLOEXEC)),
	ALLOW(dup3, "a terminal's output comes from where its input goes", SLOT(2, SLOT_TO), INT(3, O_CLOEXEC)),
	ALLOW(getsockopt, "is its vsock's socket one that listens", INT(2, SOL_SOCKET)),
	ALLOW(getsockname, "the same: where"),
	ALLOW(dup3, "it takes its place", SLOT(2, SLOT_LISTEN), INT(3, O_CLOEXEC)),
	ALLOW(ioctl, "is it a terminal", INT(2, TCGETS)),
	ALLOW(newfstatat, "which snapshot does the client mean; what is its stderr; the record; the control socket"),
	ALLOW(openat, "that, for the log", INT(3, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)),
	ALLOW(write, "the record; the configuration; a refusal; the main thread goes on"),
	ALLOW(close, "what was opened"),
	RARELY(brk, "malloc, if the heap has no room left"),
	RARELY(munmap, "the same: a large block is given back"),
	/* The record gets a name. */
	ALLOW(geteuid, "where it is"),
	RARELY(access, "the same"),
	ALLOW(openat, "the same: directories", INT(3, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)),
	RARELY(mkdirat, "the same: one is missing", INT(3, 0700)),
	ALLOW(openat, "it is a new file", INT(3, O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW | O_CLOEXEC),
	      INT(4, 0600)),
	ALLOW(openat, "one of that name", INT(3, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)),
	ALLOW(openat, "what that says", INT(3, O_RDWR | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)),
	ALLOW(openat, "since when we run", INT(3, O_RDONLY | O_CLOEXEC)),
	ALLOW(getrandom, "its id"),
	ALLOW(getpid, "whose it is"),
	ALLOW(read, "since when"),
	RARELY(getcwd, "the same: paths"),
	ALLOW(fcntl, "its locks; the configuration is sealed"),
	ALLOW(linkat, "its name", INT(5, 0)),
	ALLOW(unlinkat, "the name before; a record of that name, of a VM that has ended", INT(3, 0)),
	RARELY(pread64, "what one of that name says"),
	RARELY(clock_nanosleep, "another process has the record of that name"),
	/* The VM gets a control socket. */
	ALLOW(umask, "it is this user's"),
	ALLOW(socket, "it", INT(1, AF_UNIX), INT(2, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC)),
	ALLOW(bind, "it"),
	ALLOW(listen, "it"),
	ALLOW(openat, "its directory", INT(3, O_PATH | O_DIRECTORY | O_CLOEXEC)),
	ALLOW(utimensat, "it listens"),
	RARELY(openat, "one has that name", INT(3, O_PATH | O_NOFOLLOW | O_CLOEXEC)),
	RARELY(connect, "the same: does anybody listen"),
	RARELY(renameat2, "the same: nobody does", INT(5, RENAME_NOREPLACE)),
	ALLOW(memfd_create, "the configuration, for `mayfly inspect`"),
	LOG,
	COMMON,
	THREAD_EXIT,
};

#endif
