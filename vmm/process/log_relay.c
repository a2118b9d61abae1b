/*
 * A vCPU thread's filter lets it write to eventfds alone. So its log lines are stored
 * here, and the eventfd wakes the main thread, which writes them. Lines that do not fit
 * until then are counted.
 */
#include "vmm/process/log_relay.h"

#include <pthread.h>
#include <string.h>

#include "vmm/base/fdio.h"
#include "vmm/base/log.h"

#define RELAY_SIZE 8192

static struct {
	pthread_mutex_t lock;
	int wake_fd;
	size_t len;
	unsigned lost; /* lines */
} relay = { .lock = PTHREAD_MUTEX_INITIALIZER, .wake_fd = -1 };

/* Apart from that: the binary has no copy of zeros. */
static char stored[RELAY_SIZE];

void log_relay_init(int wake_fd)
{
	relay.wake_fd = wake_fd;
}

static void log_relay_line(const char *line, size_t len)
{
	bool first;

	pthread_mutex_lock(&relay.lock);
	first = relay.len == 0;
	if (len <= RELAY_SIZE - relay.len) {
		memcpy(stored + relay.len, line, len);
		relay.len += len;
	} else {
		relay.lost++;
	}
	pthread_mutex_unlock(&relay.lock);
	if (first)
		fdio_event_signal(relay.wake_fd);
}

void log_relay_use(void)
{
	log_set_sink(log_relay_line);
}

void log_relay_flush(void)
{
	static char text[RELAY_SIZE];
	const char *line = text, *end;
	unsigned lost;
	size_t len;

	pthread_mutex_lock(&relay.lock);
	len = relay.len;
	lost = relay.lost;
	memcpy(text, stored, len);
	relay.len = 0;
	relay.lost = 0;
	pthread_mutex_unlock(&relay.lock);
	/* One by one: a pipe takes a line as a whole or not at all. */
	for (; len && (end = memchr(line, '\n', len)); line = end + 1) {
		log_put(line, (size_t)(end + 1 - line), 1);
		len -= (size_t)(end + 1 - line);
	}
	if (lost)
		log_warn("%u lines of vCPUs were lost, continuing", lost);
}
