/*
 * /mayfly/ready and /mayfly/exec: commands in a guest with mayfly's init. Others are served until the guest answers, or the
 * request's time is over: the connection goes with the request to the client of the guest, and comes back with its result.
 */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/api/state.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config/exec.h"

static void begin(struct api *a, const struct exec_request *request, struct api_answer *answer)
{
	struct err e;

	answer->fd = http_take_over(a->http);
	answer->taken = true;
	if (answer->fd < 0)
		return; /* the client has gone */
	if (a->vm->exec(a->vm->vm, answer->fd, request, &e) < 0)
		api_answer_fault(answer, "%s error: %s.", request->command ? "Exec" : "Ready", e.text);
}

void api_put_ready(struct api *a, const char *id, void *body, struct api_answer *answer)
{
	(void)id;
	begin(a, &(struct exec_request){ .timeout_ms = ((struct api_exec *)body)->timeout_ms }, answer);
}

/* By the rules of the configuration's keys, but a variable without a value would be that of mayfly. */
static int set_texts(struct config *c, const char *key, const char *name, const json_t *list, struct err *e)
{
	const json_t *item;
	size_t i;

	if (list && !json_is_array(list))
		return err_set(e, -EINVAL, "%s: must be a list of strings", name);
	json_array_foreach(list, i, item) {
		const char *text = json_string_value(item);

		if (!text || (*name == 'e' && !strchr(text, '=')))
			return err_set(e, -EINVAL, "%s[%zu]: must be %s", name, i, text ? "NAME=VALUE" : "a string");
		if (config_set(c, key, text, e) < 0)
			return err_wrap(e, "%s[%zu]", name, i);
	}
	return 0;
}

static int read_command(struct config *c, const struct api_exec *x, struct err *e)
{
	if (!json_array_size(x->argv))
		return err_set(e, -EINVAL, "argv: must be a list of strings, the first of which is a program");
	if (set_texts(c, "command", "argv", x->argv, e) < 0 || set_texts(c, "env", "env", x->env, e) < 0)
		return e->code;
	if (x->workdir && config_set(c, "workdir", x->workdir, e) < 0)
		return err_wrap(e, "workdir");
	return x->user && config_set(c, "user", x->user, e) < 0 ? err_wrap(e, "user") : 0;
}

void api_put_exec(struct api *a, const char *id, void *body, struct api_answer *answer)
{
	const struct api_exec *x = body;
	struct config *c = calloc(1, sizeof(*c)); /* of which only the command's keys are used */
	struct err e;

	(void)id;
	if (!c || read_command(c, x, &e) < 0)
		api_answer_fault(answer, "Exec error: %s.", c ? e.text : "out of memory");
	else
		begin(a, &(struct exec_request){ &c->command, x->input, x->timeout_ms }, answer);
	if (c)
		config_done(c);
	free(c);
}

/* Any bytes as JSON: base64 (RFC 4648). NULL if memory is short. */
static json_t *print_output(const struct exec_output *o)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	MF_FREE char *text = calloc(1, (o->len + 2) / 3 * 4 + 1);

	for (size_t i = 0; text && i < o->len; i += 3) {
		const size_t left = o->len - i;
		const uint8_t in[3] = { (uint8_t)o->data[i], left > 1 ? (uint8_t)o->data[i + 1] : 0,
					left > 2 ? (uint8_t)o->data[i + 2] : 0 };
		const unsigned bits = (unsigned)in[0] << 16 | (unsigned)in[1] << 8 | in[2];

		for (unsigned k = 0; k < 4; k++)
			text[i / 3 * 4 + k] = k <= left ? digits[bits >> (18 - 6 * k) & 63] : '=';
	}
	return text ? json_string(text) : NULL;
}

_Static_assert((EXEC_OUTPUT_MAX + 2) / 3 * 4 * 2 + 6 * sizeof(((struct exec_result *)0)->text) + 512 < HTTP_LAST_MAX,
	       "an answer is sent at once");

void api_ran(void *api, int fd, const struct exec_result *r)
{
	struct api_answer answer = { .taken = true, .fd = fd };

	if (r->command)
		api_answer_json(&answer,
				json_pack("{s:o,s:b,s:b,s:b,s:s,s:o,s:o,s:b,s:b}", "status",
					  r->timed_out ? json_null() : json_integer(r->status), "timed_out",
					  r->timed_out, "signalled", r->signalled, "oom", r->oom, "error", r->text,
					  "stdout", print_output(&r->output[0]), "stderr", print_output(&r->output[1]),
					  "stdout_cut", r->output[0].cut, "stderr_cut", r->output[1].cut));
	else if (r->timed_out)
		api_answer_fault(&answer, "Ready error: the guest is not ready in this time.");
	else
		api_answer_done(&answer);
	api_send_answer(api, &answer);
}
