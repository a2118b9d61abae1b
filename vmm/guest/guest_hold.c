/*
 * A command that is held: the guest boots, and init gets an empty command. It says that it is ready (INIT_MSG_WARM), and
 * waits. A client of the control socket starts the command, for `mayfly oci start`. Another signals it.
 */
#include <errno.h>
#include <signal.h>

#include "vmm/config/config.h"
#include "vmm/guest/guest_client_parts.h"

int guest_hold_init(struct guest_client *a, const struct config *c)
{
	struct config_command command = c->command;
	char size[STDIO_RELAY_TTY_TEXT_MAX];

	if (!command.held)
		return 0;
	command.held = false;
	a->held = init_text_command(&command, command.terminal ? stdio_relay_tty_text(size) : NULL, &a->held_len);
	return a->held ? 0 : -ENOMEM;
}

static void agree(struct control_client *c)
{
	static const struct init_msg yes = { .type = INIT_MSG_HELLO };

	control_client_tell(c, &yes, NULL);
}

void guest_hold_start(struct guest_client *a, struct control_client *c)
{
	const struct init_msg run = { .type = INIT_MSG_RUN, .len = (uint32_t)a->held_len };

	if (!a->held_len) {
		control_client_refuse(c, "it was started already");
	} else if (!a->until.warm) {
		control_client_refuse(c, "the guest is not ready yet");
	} else if (init_conn_send(&a->conn, &run, a->held) < 0) {
		control_client_refuse(c, "the guest does not listen");
	} else {
		a->held_len = 0;
		agree(c);
	}
}

void guest_hold_signal(struct guest_client *a, struct control_client *c, uint32_t signo)
{
	/* As a container's first process gets one: its children do not. */
	const struct init_msg msg = { .type = INIT_MSG_SIGNAL, .value = signo, .flags = 1 };
	const bool runs = !a->held_len && a->started && !a->exited;

	if (!runs || !signo || signo >= NSIG || init_conn_send(&a->conn, &msg, NULL) < 0)
		control_client_refuse(c, "the command does not run");
	else
		agree(c);
}
