/*
 * Snapshots that a client of the control socket asks for: at once, or, of `mayfly run
 * --snapshot`, when the configuration says.
 *
 * The latter client is there before the guest is. Its request waits until it is due (until.h).
 * Then init stops all other processes (INIT_MSG_HOLD) and answers, and the snapshot begins: what
 * is restored from it sets its clock and its random numbers before they go on.
 */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/guest/guest_client_parts.h"

/* What a snapshot cannot hold: streams that end in another process, and a server's state. */
int guest_client_check_snapshot(const struct guest_client *a, struct err *e)
{
	unsigned num = 0;

	for (unsigned i = 0; i < MF_ARRAY_SIZE(a->client); i++)
		num += a->client[i].running;
	if (num)
		return err_set(e, -EBUSY,
			       "%u commands of `mayfly exec` run, which a snapshot cannot hold: end them first", num);
	if (a->num_live)
		return err_set(e, -EBUSY,
			       "the guest has %u live directories of the host, which a snapshot cannot hold: give copies "
			       "(-v HOST:/GUEST:copy)",
			       a->num_live);
	if (a->relay.tty && !a->exited)
		return err_set(e, -EBUSY, "the command has a terminal, which a snapshot cannot hold: use --no-tty");
	return 0;
}

#define PAUSE_TEXT "{\"pause_ns\": %llu}"
#define PAUSE_TEXT_SIZE 64

/* It is over at once: nothing is written but the state. */
static int share(struct guest_client *a, struct control_client *c, unsigned flags, struct err *e)
{
	char text[PAUSE_TEXT_SIZE];
	struct guest_fork f;

	if (a->ops->fork(a->ctx, c->file, c->num_files, flags, &f, e) < 0)
		return e->code;
	snprintf(text, sizeof(text), PAUSE_TEXT, (unsigned long long)f.pause_ns);
	control_client_snapped(c, text, f.memory, f.num);
	return 0;
}

static int snap(struct guest_client *a, struct control_client *c, unsigned flags, struct err *e)
{
	if (guest_client_check_snapshot(a, e) < 0)
		return e->code;
	if (flags & CONTROL_FORK)
		return share(a, c, flags, e);
	if (a->ops->snapshot(a->ctx, c->file, c->num_files, flags, e) < 0)
		return e->code;
	c->snaps = true;
	c->stops = flags & CONTROL_STOP;
	return 0;
}

static void begin(struct guest_client *a, struct control_client *c, unsigned flags)
{
	struct err e;

	c->later = 0;
	if (snap(a, c, flags, &e) < 0)
		control_client_refuse(c, e.text);
	for (; c->num_files > 0; c->num_files--)
		if (c->file[c->num_files - 1] >= 0)
			close(c->file[c->num_files - 1]);
}

void guest_snapshot_over(const struct guest_client *a, struct control_client *c, bool in_place)
{
	if (c->stops)
		a->ops->snapshot_over(a->ctx, in_place);
	c->stops = false;
}

void guest_snapshot_take(struct guest_client *a, struct control_client *c, unsigned flags)
{
	c->later = c == a->snapper && flags & CONTROL_LATER ? flags | CONTROL_STOP : 0;
	if (!c->later)
		begin(a, c, flags);
}

void guest_snapshot_held(struct guest_client *a)
{
	if (a->hold_sent && a->snapper->later)
		begin(a, a->snapper, a->snapper->later);
}

void guest_snapshot_check(struct guest_client *a)
{
	if (!a->snapper || !a->snapper->later || a->hold_sent || a->exited || !until_is_due(&a->until, clock_now_ms()))
		return;
	if (a->alone)
		begin(a, a->snapper, a->snapper->later);
	else
		a->hold_sent = guest_client_send(a, INIT_MSG_HOLD, 0, 0) == 0;
}

bool guest_client_scan(struct guest_client *a, const void *data, size_t len)
{
	return until_scan(&a->until, UNTIL_CONSOLE, data, len);
}

void guest_client_snapshot_done(struct guest_client *a, uint64_t pause_ns, const struct err *e)
{
	char text[PAUSE_TEXT_SIZE];

	snprintf(text, sizeof(text), PAUSE_TEXT, (unsigned long long)pause_ns);
	for (unsigned i = 0; i < MF_ARRAY_SIZE(a->client); i++) {
		struct control_client *c = &a->client[i];

		if (c->snaps && e)
			control_client_refuse(c, e->text);
		else if (c->snaps)
			control_client_snapped(c, text, NULL, 0);
		c->snaps = false;
		if (c->fd < 0 || e)
			guest_snapshot_over(a, c, false);
	}
}
