/* What init has to know when its guest was restored from a snapshot; see restored.h. */
#include "vmm/guest/restored.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/guest/init_conn.h"
#include "vmm/guest/init_text.h"
#include "vmm/guest/stdio_relay.h"

int restored_init(struct restored *r, const struct config *c, struct err *e)
{
	char size[STDIO_RELAY_TTY_TEXT_MAX];
	const char *tty = c->command.terminal ? stdio_relay_tty_text(size) : NULL;

	if (!c->restore_state || !c->command.args.num)
		return 0;
	if (getrandom(r->now.random, sizeof(r->now.random), GRND_NONBLOCK) != (ssize_t)sizeof(r->now.random))
		return err_sys(e, "getrandom");
	/* A template gets its name with the rest. */
	snprintf(r->name, sizeof(r->name), "%s", c->name && !c->template.used ? c->name : "");
	if (c->template.used)
		r->boot = init_text_boot(c, &r->boot_len);
	if (c->template.used || c->restore_command)
		r->command = init_text_command(&c->command, tty, &r->command_len);
	if ((c->template.used && !r->boot) || ((c->template.used || c->restore_command) && !r->command))
		return err_set(e, -ENOMEM, "out of memory");
	r->alone = c->api;
	r->held = c->pool_runs;
	r->due = true;
	return 0;
}

void restored_done(struct restored *r)
{
	free(r->command);
	free(r->boot);
	r->command = r->boot = NULL;
}

static int send_text(struct init_conn *conn, enum init_msg_type type, const char *text, size_t len)
{
	const struct init_msg msg = { .type = type, .len = (uint32_t)len };

	return init_conn_send(conn, &msg, text);
}

static int send_all(struct restored *r, struct init_conn *conn)
{
	struct init_msg msg = { .type = INIT_MSG_RESTORED,
				.value = r->alone ? INIT_RESTORED_ALONE : r->held || (r->command && !r->boot) };
	char payload[sizeof(r->now) + sizeof(r->name)];
	struct timespec now;
	int sent;

	(void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail */
	r->now.realtime_ns = (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
	memcpy(payload, &r->now, sizeof(r->now));
	memcpy(payload + sizeof(r->now), r->name, sizeof(r->name));
	msg.len = (uint32_t)(sizeof(r->now) + strlen(r->name) + 1);
	sent = init_conn_send(conn, &msg, payload);
	if (!sent && r->boot)
		sent = send_text(conn, INIT_MSG_BOOT, r->boot, r->boot_len);
	if (!sent && r->command)
		sent = send_text(conn, INIT_MSG_RUN, r->command, r->command_len);
	return sent;
}

bool restored_tell(struct restored *r, const struct init_msg *hello, struct init_conn *conn)
{
	/* Version 1 does not say. */
	const bool first = hello->value > 1 && !(hello->flags & INIT_AGAIN);
	int sent;

	if (!r->due)
		return true;
	r->due = false;
	if (first && (r->command || r->held))
		return false;
	sent = send_all(r, conn);
	if (sent < 0)
		log_warn("the guest's init: %s; continuing", strerror(-sent));
	return true;
}

int restored_claim(struct restored *r, const struct config *c, const uint8_t random[INIT_RANDOM_BYTES],
		   struct init_conn *conn)
{
	char size[STDIO_RELAY_TTY_TEXT_MAX];

	r->command = init_text_command(&c->command, c->command.terminal ? stdio_relay_tty_text(size) : NULL,
				       &r->command_len);
	if (!r->command)
		return -ENOMEM;
	memcpy(r->now.random, random, sizeof(r->now.random));
	snprintf(r->name, sizeof(r->name), "%s", c->name ? c->name : "");
	return send_all(r, conn);
}
