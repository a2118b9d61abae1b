/* The timers of a loop; see timer.h. */
#include "vmm/core/timer.h"

#include <stddef.h>

#include "vmm/base/util.h"

#define NS_PER_S 1000000000U

void timer_cancel(struct timers *t, struct timer *timer)
{
	if (!timer->set)
		return;
	for (struct timer **at = &t->first; *at; at = &(*at)->next) {
		if (*at == timer) {
			*at = timer->next;
			break;
		}
	}
	timer->set = false;
}

void timer_set(struct timers *t, struct timer *timer, uint64_t deadline_ns)
{
	struct timer **at = &t->first;

	timer_cancel(t, timer);
	/* In a later turn than this one: otherwise timers_run might never end. */
	deadline_ns = MF_MAX(deadline_ns, t->now_ns + 1);
	while (*at && (*at)->deadline_ns <= deadline_ns)
		at = &(*at)->next;
	timer->deadline_ns = deadline_ns;
	timer->set = true;
	timer->next = *at;
	*at = timer;
}

void timers_run(struct timers *t, uint64_t now_ns)
{
	struct timer *timer;

	t->now_ns = now_ns;
	while ((timer = t->first) && timer->deadline_ns <= now_ns) {
		t->first = timer->next;
		timer->set = false;
		timer->fire(timer);
	}
}

bool timers_sleep(const struct timers *t, uint64_t now_ns, struct __kernel_timespec *ret)
{
	uint64_t ns;

	if (!t->first)
		return false;
	ns = t->first->deadline_ns > now_ns ? t->first->deadline_ns - now_ns : 0;
	*ret = (struct __kernel_timespec){ .tv_sec = (int64_t)(ns / NS_PER_S), .tv_nsec = (long long)(ns % NS_PER_S) };
	return true;
}
