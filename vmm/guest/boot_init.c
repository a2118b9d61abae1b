/* The archive with mayfly's init; see boot_init.h. */
#include "vmm/guest/boot_init.h"

#include <errno.h>
#include <sys/stat.h>

#include "loader/init/proto.h"
#include "loader/init_blob.h"
#include "loader/initramfs.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/guest/init_text.h"
#include "vmm/guest/stdio_relay.h"

int boot_init_archive(uint8_t **ret, size_t *ret_len, const struct config *c, struct err *e)
{
	char size[STDIO_RELAY_TTY_TEXT_MAX];
	const char *tty = c->command.terminal ? stdio_relay_tty_text(size) : NULL;
	size_t boot_len = 0, command_len = 0;
	MF_FREE char *boot = init_text_boot(c, &boot_len);
	MF_FREE char *command = init_text_command(&c->command, tty, &command_len);
	const struct initramfs_file files[] = {
		{ .path = INIT_DIR, .mode = S_IFDIR | 0700 },
		/* Without the slash. */
		{ .path = &INIT_PATH[1], .mode = S_IFREG | 0700, .data = init_blob, .len = init_blob_len },
		{ .path = &INIT_BOOT_PATH[1], .mode = S_IFREG | 0600, .data = boot, .len = boot_len },
		{ .path = &INIT_COMMAND_PATH[1], .mode = S_IFREG | 0600, .data = command, .len = command_len },
	};

	if (!boot || !command)
		return err_set(e, -ENOMEM, "command: out of memory");
	return initramfs_make(ret, ret_len, files, MF_ARRAY_SIZE(files), e);
}
