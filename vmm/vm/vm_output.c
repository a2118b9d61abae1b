/* The file of the guest's serial output; see vm_output.h. */
#include "vmm/vm/vm_output.h"

#include <fcntl.h>

#include "vmm/base/clock.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/platform/console.h"
#include "vmm/vm/vm.h"

/* As many bytes as there are tokens, at once. On the io loop. */
static size_t vm_admit(void *ctx, size_t len)
{
	struct vm *vm = ctx;
	struct ratelimit *r = &vm->output.limit;
	uint64_t now = clock_now_ns(), retry;

	if (!ratelimit_ready(r, 1, 0, now, &retry))
		return 0;
	len = MF_MIN(len, r->bytes.burst + r->bytes.tokens);
	ratelimit_charge(r, len, 0, now);
	return len;
}

int vm_output_set(struct vm *vm, struct console_params *params, struct err *e)
{
	const struct config *c = vm->config;

	if (c->serial_limit.size && c->serial_limit.refill_ms) {
		ratelimit_set(&vm->output.limit, &c->serial_limit, NULL, clock_now_ns());
		params->admit = vm_admit;
	}
	if (!c->serial_out)
		return 0;
	vm->output.fd = open(c->serial_out, O_RDWR | O_NONBLOCK | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
	if (vm->output.fd < 0)
		return err_sys(e, "serial output '%s'", c->serial_out);
	params->in_fd = -1;
	params->out_fd = vm->output.fd;
	return 0;
}
