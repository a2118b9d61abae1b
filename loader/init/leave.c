/* The end of drives; see leave.h. */
#include "loader/init/leave.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "loader/init/fd.h"

/* Takes the next word of a line of /proc/mounts, where spaces and the like are written in octal, in place. */
static char *leave_next_word(char **at)
{
	char *word = *at, *to = word, *from = word;

	while (*from != ' ' && *from != '\n' && *from != '\0') {
		if (from[0] == '\\' && from[1] != '\0' && from[2] != '\0' && from[3] != '\0') {
			*to++ = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
			from += 4;
		} else {
			*to++ = *from++;
		}
	}
	*at = *from == '\0' ? from : from + 1;
	*to = '\0';
	return word;
}

/* Whether writes to a drive, or to a partition of it, are lost with the machine. */
static bool leave_is_lost(const char *boot, size_t len, const char *device)
{
	const char *s;
	size_t at = 0;

	while ((s = text_next(boot, len, &at)) != NULL) {
		if (s[0] == 'l' && strncmp(device, s + 1, strlen(s + 1)) == 0)
			return true;
	}
	return false;
}

void leave_drives(const char *boot, size_t len, struct text *why)
{
	static char mounts[1 << 16];
	long size = fd_read_file("/proc/mounts", mounts, sizeof(mounts));
	bool synced = false;

	mounts[size < 0 ? 0 : size] = '\0';
	for (char *at = mounts; *at != '\0';) {
		char *end = strchr(at, '\n');
		const char *device = leave_next_word(&at), *path = leave_next_word(&at);
		int fd;

		(void)leave_next_word(&at);
		/*
		 * A drive whose writes are lost, or that is read-only, has nothing to
		 * sync; a remount waits for 2 RCU grace periods.
		 */
		if (strncmp(device, "/dev/", 5) == 0 && at[1] == 'w' && !leave_is_lost(boot, len, device)) {
			/* First, since one file system may be in a file of another. */
			if (!synced)
				sync();
			synced = true;
			/* Reports errors, also earlier ones that no program has seen. */
			fd = open(path, O_RDONLY | O_CLOEXEC);
			if (fd >= 0 && syncfs(fd) < 0) {
				text_add(why, why->len > 0 ? "; " : "", path, NULL);
				text_add_error(why, errno);
			}
			fd_close(&fd);
			/* One that is still in use stays as it is: everything on it is written. */
			(void)mount(NULL, path, NULL, MS_REMOUNT | MS_RDONLY, NULL);
		}
		at = end == NULL ? at + strlen(at) : end + 1;
	}
}

void leave_reboot(void)
{
	for (;;) {
		/*
		 * It returns only on a serious error; then only the host's time limit is
		 * left.
		 */
		(void)reboot(RB_AUTOBOOT);
		clock_sleep_ms(1000);
	}
}
