/* Declarations that the files of the jailer share; see fcjailer.h. */
#ifndef MF_JAILER_FCJAILER_PARTS_H
#define MF_JAILER_FCJAILER_PARTS_H

#include <limits.h>
#include <stdint.h>
#include <sys/types.h>

struct err;

#define FCJAIL_MADE_MAX 16

/* The directories of a jail, and everything that was made for it. */
struct fcjail {
	char exec_path[PATH_MAX]; /* of the executable, on the host */
	const char *name;	  /* of it: the last part */
	char path[PATH_MAX];	  /* of the jail's root, for messages */
	uid_t uid;
	gid_t gid;
	int exec; /* the executable, open; owned as those below, -1: not open */
	uint64_t exec_size;
	int base_dir, exec_dir, id_dir, root, dev, net, run; /* root is another one after fcjail_enter */
	int userfault_minor;				     /* of its device on this host, or -1 */
	struct {
		int dir; /* of this struct */
		char name[NAME_MAX + 1];
		int flags; /* for unlinkat */
	} made[FCJAIL_MADE_MAX];
	unsigned num_made;
};

void fcjail_init(struct fcjail *j, uid_t uid, gid_t gid);

/* Closes what is open. */
void fcjail_done(struct fcjail *j);

/* Removes what was made, as far as this process may. */
void fcjail_undo(const struct fcjail *j);

/* Opens the executable. Returns 0 or -errno with e set. */
int fcjail_open_exec(struct fcjail *j, const char *exec_file, struct err *e);

/* Then makes or opens the directories down to the root. Returns 0 or -errno with e set. */
int fcjail_make_root(struct fcjail *j, const char *base, const char *id, struct err *e);

/* Then copies the executable into it. Returns 0 or -errno with e set. */
int fcjail_copy_exec(struct fcjail *j, struct err *e);

/*
 * Creates a new file in the root. Returns its fd (O_CLOEXEC, for writing), or -errno with
 * e set.
 */
int fcjail_make_file(struct fcjail *j, const char *name, struct err *e);

/*
 * Makes /dev, /dev/net, /run and the devices, and gives them and the root to the user. Returns 0 or -errno with e set.
 */
int fcjail_make_devices(struct fcjail *j, struct err *e);

/*
 * Makes the root directory this process's root, in a mount namespace of its own. Returns
 * 0 or -errno with e set.
 */
int fcjail_enter(struct fcjail *j, struct err *e);

/* Each of these returns 0 or -errno with e set. */
int fcjail_join_netns(const char *path, struct err *e);
int fcjail_limit(uint64_t no_file, uint64_t fsize, struct err *e); /* fsize UINT64_MAX: no limit */

/*
 * Switches to the user, without supplementary groups, and without capabilities unless the
 * user is root. Returns 0 or -errno with e set.
 */
int fcjail_drop(uid_t uid, gid_t gid, struct err *e);

#endif
