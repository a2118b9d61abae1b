/*
 * KVM's counters of vCPUs; see kvm_stats.h.
 *
 * Such a file is a header, an id, descriptors and the values (KVM API, "KVM_GET_STATS_FD"). All
 * in front of the values is read at the start. The file's position is then that of the values, so
 * that the main thread can read them with read(2) alone, which its filter has.
 */
#include "vmm/core/kvm_stats.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/base/fdio.h"
#include "vmm/base/util.h"

#define HEAD_MAX (64 * KIB) /* all in front of the values; it is 5 KiB on Linux 6.18 */
#define DATA_MAX (16 * KIB)

/* Only plain counts: no times, no histograms, no present values. */
static bool is_count(const struct kvm_stats_desc *d)
{
	return (d->flags & KVM_STATS_TYPE_MASK) == KVM_STATS_TYPE_CUMULATIVE &&
	       (d->flags & KVM_STATS_UNIT_MASK) == KVM_STATS_UNIT_NONE && d->exponent == 0 && d->size == 1;
}

/* Copies a name of the characters that a key of JSON and a column of CSV may have. Returns false if it is another. */
static bool copy_name(char to[KVM_STATS_NAME_MAX], const char *from, size_t size)
{
	size_t len = strnlen(from, size);

	if (!len || len >= KVM_STATS_NAME_MAX || len == size)
		return false;
	for (size_t i = 0; i < len; i++)
		if (!(from[i] >= 'a' && from[i] <= 'z') && !(from[i] >= '0' && from[i] <= '9') && from[i] != '_')
			return false;
	memcpy(to, from, len);
	to[len] = '\0';
	return true;
}

/* Finds the counters in what is in front of the values. Returns 0 or -EPROTO. */
static int parse_head(struct kvm_stats *s, const char *head, size_t len, const struct kvm_stats_header *h)
{
	const uint64_t each = sizeof(struct kvm_stats_desc) + h->name_size;

	if (!mf_range_within(h->desc_offset, each * h->num_desc, len) || h->num_desc > HEAD_MAX)
		return -EPROTO;
	for (uint32_t i = 0; i < h->num_desc && s->num < KVM_STATS_MAX; i++) {
		const char *at = head + h->desc_offset + i * each;
		struct kvm_stat *stat = &s->stat[s->num];
		struct kvm_stats_desc d;

		memcpy(&d, at, sizeof(d)); /* it need not be aligned */
		if (!is_count(&d) || !copy_name(stat->name, at + sizeof(d), h->name_size))
			continue;
		if (!mf_range_within(d.offset, sizeof(stat->value), DATA_MAX))
			return -EPROTO;
		stat->offset = d.offset;
		stat->value = 0;
		s->data_size = MF_MAX(s->data_size, stat->offset + sizeof(stat->value));
		s->num++;
	}
	return s->num ? 0 : -EPROTO;
}

static bool is_same(const struct kvm_stats *a, const struct kvm_stats *b)
{
	if (a->num != b->num)
		return false;
	for (unsigned i = 0; i < a->num; i++)
		if (strcmp(a->stat[i].name, b->stat[i].name) != 0 || a->stat[i].offset != b->stat[i].offset)
			return false;
	return true;
}

/* Reads all in front of the values. Returns 0 or -errno. */
static int read_head(struct kvm_stats *s, int fd)
{
	MF_FREE char *head = malloc(HEAD_MAX);
	struct kvm_stats_header h;
	ssize_t n;

	if (!head)
		return -ENOMEM;
	n = fdio_read(fd, head, sizeof(h));
	if (n != (ssize_t)sizeof(h))
		return n < 0 ? (int)n : -EPROTO;
	memcpy(&h, head, sizeof(h));
	if (h.data_offset < sizeof(h) || h.data_offset > HEAD_MAX)
		return -EPROTO;
	n = fdio_read(fd, head + sizeof(h), h.data_offset - sizeof(h));
	if (n != (ssize_t)(h.data_offset - sizeof(h)))
		return n < 0 ? (int)n : -EPROTO;
	s->data_at = h.data_offset;
	return parse_head(s, head, h.data_offset, &h);
}

static void forget(struct kvm_stats *s)
{
	for (unsigned i = 0; i < s->num_fds; i++)
		close(s->fd[i]);
	s->num = s->num_fds = 0;
}

int kvm_stats_add_fd(struct kvm_stats *s, int fd)
{
	struct kvm_stats found = { 0 };
	int r = s->num_fds < KVM_STATS_FDS_MAX ? read_head(&found, fd) : -ENOSPC;

	if (r == 0 && s->num_fds && !is_same(s, &found))
		r = -EPROTO;
	if (r < 0) {
		close(fd);
		forget(s); /* a sum without one of the vCPUs would be wrong */
		return r;
	}
	if (!s->num_fds)
		*s = found;
	s->fd[s->num_fds++] = fd;
	return 0;
}

void kvm_stats_add(struct kvm_stats *s, int vcpu_fd)
{
	int fd = ioctl(vcpu_fd, KVM_GET_STATS_FD, NULL);

	if (fd >= 0)
		(void)kvm_stats_add_fd(s, fd); /* there are none then */
	else
		forget(s);
}

void kvm_stats_look(struct kvm_stats *s)
{
	uint8_t data[DATA_MAX];
	uint64_t value;

	for (unsigned k = 0; k < s->num; k++)
		s->stat[k].value = 0;
	for (unsigned i = 0; i < s->num_fds; i++) {
		if (fdio_pread(s->fd[i], data, s->data_size, s->data_at) != (ssize_t)s->data_size) {
			forget(s);
			return;
		}
		for (unsigned k = 0; k < s->num; k++) {
			memcpy(&value, data + s->stat[k].offset, sizeof(value));
			s->stat[k].value += value; /* counters wrap */
		}
	}
}

void kvm_stats_read(struct kvm_stats *s)
{
	kvm_stats_look(s);
	for (unsigned i = 0; i < s->num_fds; i++)
		close(s->fd[i]);
	s->num_fds = 0;
}

const uint64_t *kvm_stats_find(const struct kvm_stats *s, const char *name)
{
	for (unsigned i = 0; i < s->num; i++)
		if (strcmp(s->stat[i].name, name) == 0)
			return &s->stat[i].value;
	return NULL;
}
