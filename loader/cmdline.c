/*
 * The kernel command line; see cmdline.h.
 *
 * The composed line is: base words, words for the number of CPUs, root, one virtio_mmio.device= per device, then the
 * user's text of --append, which so overrides ours and may end in " -- ARGS" for init. A text of --cmdline replaces
 * everything but the device words, without which a kernel without ACPI finds no device, and rdinit=; they go before its
 * "--". Every word costs the guest instructions, and one that it does not know costs a message: pass nothing useless.
 *
 *	console=ttyS0		output on the serial port
 *	quiet			spares one exit for every character of the boot messages
 *	reboot=k panic=-1	reboot and panic end the VM at once, by a triple fault
 *	percpu_alloc=page	420 pages fewer touched at start
 *	noreplace-smp		one CPU only: spares the patching of 6,000 lock prefixes, 3 million instructions
 *	rdinit=			mayfly's own init, where that runs a command
 *	tsc=reliable		several CPUs only: spares the timed comparison of their TSCs, which KVM keeps in step
 */
#include "loader/cmdline.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "loader/device.h"
#include "loader/layout.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"

#define BASE_WORDS "console=ttyS0 quiet reboot=k panic=-1 percpu_alloc=page"

/* Counts on beyond the end of the buffer, so that the error can say how long the line would have been. */
struct line {
	char *buf;
	size_t size;
	size_t len;
};

/* Appends words, separated by a space. */
__attribute__((format(printf, 2, 3))) static void add(struct line *l, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (l->len > 0) {
		if (l->len + 1 < l->size)
			memcpy(l->buf + l->len, " ", 2);
		l->len++;
	}
	va_start(ap, fmt);
	if (l->len < l->size)
		n = vsnprintf(l->buf + l->len, l->size - l->len, fmt, ap);
	else
		n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n > 0)
		l->len += (size_t)n;
}

static void add_devices(struct line *l, const struct cmdline_in *in)
{
	if (in->init)
		add(l, "rdinit=%s", in->init);
	for (unsigned i = 0; i < in->num_devices; i++) {
		const struct loader_device *d = &in->devices[i];

		add(l, "virtio_mmio.device=%uK@0x%llx:%u", (unsigned)(d->size / KIB), (unsigned long long)d->gpa,
		    d->irq);
	}
}

/* Space as the kernel sees it: its isspace() takes 0xa0 as well. */
static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r') || c == '\xa0';
}

/*
 * Where the word "--" is, after which the kernel leaves everything to init, or the end of text. Words are split as the
 * kernel does it: by space outside of double quotes; a word in quotes counts without them.
 */
static size_t find_init_words(const char *text)
{
	size_t pos = 0, start, len;
	bool quoted;

	for (;;) {
		while (is_space(text[pos]))
			pos++;
		if (text[pos] == '\0')
			return pos;
		start = pos;
		quoted = false;
		for (; text[pos] != '\0' && (quoted || !is_space(text[pos])); pos++)
			quoted ^= text[pos] == '"';
		len = pos - start;
		if ((len == 2 && memcmp(text + start, "--", 2) == 0) ||
		    (len == 4 && memcmp(text + start, "\"--\"", 4) == 0))
			return start;
	}
}

static void add_replacement(struct line *l, const struct cmdline_in *in)
{
	size_t init = find_init_words(in->replace), head = init;

	while (head > 0 && is_space(in->replace[head - 1]))
		head--;
	if (head > 0)
		add(l, "%.*s", (int)MF_MIN(head, (size_t)INT32_MAX), in->replace);
	add_devices(l, in);
	if (in->replace[init] != '\0')
		add(l, "%s", in->replace + init);
}

int cmdline_compose(char *buf, size_t size, const struct cmdline_in *in, struct err *e)
{
	struct line l = { .buf = buf, .size = MF_MIN(size, LAYOUT_CMDLINE_SIZE) };

	if (l.size > 0)
		buf[0] = '\0';
	if (in->replace) {
		add_replacement(&l, in);
	} else {
		add(&l, "%s %s", BASE_WORDS, in->cpus == 1 ? "noreplace-smp" : "tsc=reliable");
		if (in->has_root)
			add(&l, "root=/dev/vda %s", in->root_read_only ? "ro" : "rw");
		add_devices(&l, in);
	}
	if (in->append && in->append[0] != '\0')
		add(&l, "%s", in->append);
	if (l.len >= l.size)
		return err_set(e, -E2BIG, "the kernel command line has %zu bytes; at most %zu are possible", l.len,
			       l.size > 0 ? l.size - 1 : 0);
	return 0;
}
