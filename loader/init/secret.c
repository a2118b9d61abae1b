/* Secrets; see secret.h. */
#include "loader/init/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "loader/init/fd.h"
#include "loader/init/proto.h"

#define FLAGS (MS_NOSUID | MS_NODEV | MS_NOEXEC)

static unsigned secret_digit(char c)
{
	return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
}

/* NAME:DATA, in the working directory. 0 or -errno. */
static int secret_write(const char *spec)
{
	const char *data = strchr(spec, ':') + 1;
	struct text name = { 0 };
	char buf[512];
	size_t n = 0;
	int fd, ret = 0;

	text_add_bytes(&name, spec, (size_t)(data - spec - 1));
	fd = open(name.s, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
	if (fd < 0)
		return -errno;
	for (; ret == 0 && data[0] != '\0' && data[1] != '\0'; data += 2) {
		buf[n++] = (char)(secret_digit(data[0]) << 4 | secret_digit(data[1]));
		if (n == sizeof(buf) || data[2] == '\0') {
			ret = fd_write(fd, buf, n);
			n = 0;
		}
	}
	fd_close(&fd);
	return ret;
}

bool secret_write_all(const char *boot, size_t len, struct text *why)
{
	const char *s;
	size_t at = 0;
	int ret = 0;

	if (text_find(boot, len, 'z') == NULL)
		return true;
	(void)mkdir(INIT_SECRETS, 0755);
	if (mount("secrets", INIT_SECRETS, "tmpfs", FLAGS, "mode=755,size=2m") < 0 || chdir(INIT_SECRETS) < 0)
		ret = -errno;
	while (ret == 0 && (s = text_next(boot, len, &at)) != NULL)
		if (*s == 'z')
			ret = secret_write(s + 1);
	if (ret == 0 && mount(NULL, INIT_SECRETS, NULL, MS_REMOUNT | MS_RDONLY | FLAGS, NULL) < 0)
		ret = -errno;
	(void)chdir("/");
	if (ret == 0)
		return true;
	text_add(why, "secrets in " INIT_SECRETS, NULL);
	text_add_error(why, -ret);
	return false;
}
