/* The end of a VM; see vm_end.h. */
#include "vmm/vm/vm_end.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/eventfd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/result.h"
#include "vmm/vm/timeline.h"

int vm_end_init(struct vm_end *end, struct timeline *timeline, struct err *e)
{
	*end = (struct vm_end){ .lock = PTHREAD_MUTEX_INITIALIZER, .timeline = timeline };
	end->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return end->wake_fd < 0 ? err_sys(e, "make an eventfd") : 0;
}

void vm_end(struct vm_end *end, enum vm_end_reason reason, const char *fmt, ...)
{
	va_list ap;

	pthread_mutex_lock(&end->lock);
	if (vm_end_reason(end) == VM_RUNNING) {
		timeline_mark(end->timeline, TIMELINE_END);
		result_at(RESULT_ENDED);
		va_start(ap, fmt);
		vsnprintf(end->text, sizeof(end->text), fmt, ap);
		va_end(ap);
		/* Pairs with the acquire in vm_end_reason: who sees the reason sees the text. */
		atomic_store_explicit(&end->reason, (int)reason, memory_order_release);
		vm_end_wake(end);
	}
	pthread_mutex_unlock(&end->lock);
}

enum vm_end_reason vm_end_reason(const struct vm_end *end)
{
	return (enum vm_end_reason)atomic_load_explicit(&end->reason, memory_order_acquire);
}

void vm_end_wake(const struct vm_end *end)
{
	fdio_event_signal(end->wake_fd);
}
