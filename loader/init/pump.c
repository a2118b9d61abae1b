/*
 * Carries bytes one way: see pump.h.
 *
 * It reads only into an empty buffer. So a sink that accepts nothing stops the source,
 * whose pipe or connection fills up; this is the whole flow control. At EOF with an empty
 * buffer, both ends are closed, and the sink sees EOF. If the sink is closed, the pump has
 * failed; then its user closes both ends, and the source's writer gets EPIPE. The sink is
 * checked for that even when there is nothing to write.
 */
#include "loader/init/pump.h"

#include <errno.h>
#include <unistd.h>

#include "loader/init/fd.h"

bool pump_is_over(const struct pump *pump)
{
	return pump->to < 0;
}

void pump_close(struct pump *pump)
{
	fd_close(&pump->from);
	fd_close(&pump->to);
	pump->len = 0;
	pump->failed = false;
}

void pump_polls(const struct pump *pump, struct pollfd *polls)
{
	/* An end of the source would be reported again and again while the buffer is not empty. */
	polls[0] = (struct pollfd){ .fd = pump->len == 0 ? pump->from : -1, .events = POLLIN };
	polls[1] = (struct pollfd){ .fd = pump->to, .events = pump->len > 0 ? POLLOUT : 0 };
}

static bool pump_must_wait(void)
{
	return errno == EAGAIN || errno == EINTR;
}

static void pump_read(struct pump *pump)
{
	size_t size = PUMP_BYTES;
	ssize_t n;

	if (pump->ending && pump->left < size)
		size = pump->left;
	n = size == 0 ? 0 : read(pump->from, pump->buf, size);
	if (n > 0) {
		pump->start = 0;
		pump->len = (uint32_t)n;
		pump->left -= pump->ending ? (uint32_t)n : 0;
	} else if (n == 0 || pump->ending) {
		pump_close(pump);
	} else {
		pump->failed = !pump_must_wait();
	}
}

static void pump_write(struct pump *pump)
{
	ssize_t n = write(pump->to, pump->buf + pump->start, pump->len);

	if (n >= 0) {
		pump->start += (uint32_t)n;
		pump->len -= (uint32_t)n;
	} else {
		pump->failed = !pump_must_wait();
	}
}

void pump_turn(struct pump *pump, const struct pollfd *polls)
{
	if (pump->to >= 0 && (polls[1].revents & (POLLERR | POLLHUP | POLLNVAL)) != 0)
		pump->failed = true;
	if (pump->failed)
		return;
	/*
	 * At the end no event announces the bytes that are still there, so it reads until
	 * the sink accepts no more.
	 */
	do {
		if (pump->to >= 0 && pump->len == 0 && (polls[0].revents != 0 || pump->ending))
			pump_read(pump);
		if (pump->to >= 0 && pump->len > 0)
			pump_write(pump);
	} while (pump->ending && !pump->failed && pump->to >= 0 && pump->len == 0);
}

void pump_end(struct pump *pump, uint32_t limit)
{
	pump->ending = true;
	pump->left = limit;
}
