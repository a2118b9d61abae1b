/* When the snapshot of `mayfly run --snapshot` is due; see config_until. */
#ifndef MF_GUEST_UNTIL_H
#define MF_GUEST_UNTIL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/config/config.h"

/* Where a text may be printed. Each belongs to one thread. */
enum until_stream { UNTIL_CONSOLE, UNTIL_STDOUT, UNTIL_STDERR };

/* Zeroed: it is never due. The main thread's, except for until_scan. */
struct until {
	enum config_until when;
	const char *text;		/* the configuration's */
	uint8_t back[CONFIG_UNTIL_MAX]; /* how much of text ends with its first n + 1 bytes, apart from those themselves */
	size_t found[UNTIL_STDERR + 1]; /* how much of text each stream has printed last */
	atomic_bool seen;		/* all of it, by one of them */
	uint64_t due_ms;		/* by clock_now_ms */
	bool passed;			/* until_is_due has found that to be over */
	bool warm;			/* init has reported INIT_MSG_WARM */
};

/* Before the guest runs: the text is c's, and time begins. */
void until_init(struct until *u, const struct config *c, uint64_t now_ms);

/* Reads along what a stream prints. Returns whether the text is complete with it: the main thread looks then. */
bool until_scan(struct until *u, enum until_stream stream, const void *data, size_t len);

/* Called whenever the main thread is awake. */
bool until_is_due(struct until *u, uint64_t now_ms);

/*
 * How long poll(2) may wait for that, max_ms at most (-1: no limit). A time that until_is_due has found to be over is not
 * waited for: what keeps the snapshot from its beginning, such as an init that is not there yet, wakes the main thread.
 */
int until_timeout(const struct until *u, uint64_t now_ms, int max_ms);

#endif
