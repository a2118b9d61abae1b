/*
 * Snapshots of a VM: taking one while it runs, and building a VM from one. All of it is the
 * main thread's.
 */
#ifndef MF_VM_VM_STATE_H
#define MF_VM_VM_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "vmm/core/kvm.h"

#define VM_TAG STATE_TAG('v', 'm', ' ', ' ')
#define VM_VERSION 1

/* The last section but `diff`, if a client of Firecracker's API has asked for the snapshot: what that has configured, as JSON. */
#define VM_CONFIG_TAG STATE_TAG('c', 'o', 'n', 'f')
#define VM_CONFIG_VERSION 1

struct config;
struct diff;
struct cpu_template;
struct err;
struct memory_map;
struct state_in;
struct state_out;
struct vm;

enum { VM_FILE_STATE, VM_FILE_MEMORY, VM_FILE_LAYERS };

struct vm_snapshot_files {
	const int *file; /* by VM_FILE_..., then the layers */
	unsigned num;
	bool stop, diff;
	unsigned images;    /* CONTROL_IMAGE of each drive that has a file for its image */
	bool sync;	    /* they are written when they are synced */
	const char *config; /* for VM_CONFIG_TAG; or NULL */
};

/*
 * vm_on_snapshot (guest_client.h): pauses the VM, collects its state, starts a child that writes the
 * files, and lets the VM go on; with CONTROL_STOP in flags, it stays paused until vm_on_snapshot_over, which ends it or
 * lets it go on.
 * files: new regular files, not owned: `state`; `memory`, as large as RAM; the layers of drives with an
 * overlay, in the drives' order. Returns 0; or -errno with e set, and the VM goes on.
 *
 * vm_snapshot_begin: the same; a VM that is paused stays so. With diff, the VM has a chain.
 */
int vm_snapshot_begin(struct vm *vm, const struct vm_snapshot_files *files, struct err *e);

/*
 * Parts of that, for vm_fork.c.
 *
 * vm_check_files: they must be files, so that writing them ends, and as many as there are layers and images, and two.
 * vm_collect: pauses the VM, writes its drives' layers and begins its state in *out, which is static. vm_resume follows in any
 * case, unless the VM was paused before. vm_put_head: what `state` begins with, which has a fixed length, and can be written again when
 * map is known. Return 0 or -errno with e set.
 */
int vm_check_files(const struct vm *vm, const struct vm_snapshot_files *f, struct err *e);
int vm_collect(struct vm *vm, const struct vm_snapshot_files *f, struct state_out *out, struct err *e);
struct diff *vm_diff_scratch(void); /* the main thread's; no snapshot is begun while it is used */
void vm_put_head(const struct vm *vm, const struct memory_map *map, struct state_out *out);

/* When that process has ended: 0: the files are written (synced if that was asked); or -errno with e set. */
int vm_snapshot_check(struct vm *vm, struct err *e);

/*
 * If the configuration says so, and its init waits: writes the snapshot of a template, as vm_on_snapshot with stop. The VM ends
 * in any case.
 */
void vm_become_template(struct vm *vm);

/*
 * Pauses the VM: vCPUs and devices; or lets it go on. Nothing happens if it is so already. Returns 0;
 * or -errno with e set, and it goes on.
 */
int vm_set_paused(struct vm *vm, bool paused, struct err *e);

/* What a pause has stopped, and all that a restore has made, begins to work. */
void vm_resume(struct vm *vm);

/*
 * Opens the snapshot that a configuration names, with its parents, as c->restore_chain and
 * c->restore_host, and refuses what this host, or such a VM, cannot run: before there is
 * anything to undo. Any thread. Returns 0 or -errno with e set.
 */
int vm_restore_check(struct config *c, struct err *e);

/* What that has found out, and the VM uses. */
struct restore_host {
	pid_t pid;		  /* whose kvm is; a fork has to begin again */
	struct kvm kvm;		  /* /dev/kvm, and an empty VM if one was needed; taken by the VM */
	struct cpu_template *cpu; /* CPUID of the snapshot; taken by the VM */
};

/*
 * For a configuration that is not complete: opens the same, and reads what the state has with VM_CONFIG_TAG. *ret is a new
 * string, or NULL if there is none. vm_restore_check follows. Returns 0 or -errno with e set.
 */
int vm_read_config(struct config *c, char **ret, struct err *e);

/*
 * After config_check: names what the snapshot has of each drive, as its base or image: below dir, as `mayfly snapshot` writes
 * it; or beside the state, as vm_write.h does, if dir is NULL. Returns 0 or -errno with e set.
 */
int vm_find_layers(struct config *c, const char *dir, struct err *e);

/*
 * Parts of vm_restore_check that ask nothing of this host. vm_check_own: whether the configuration and the state in `in`
 * belong together; reads the first two sections. vm_check_layer: the layer of a drive. Return 0 or -errno with e set.
 */
int vm_check_own(const struct config *c, struct state_in *in, struct err *e);
int vm_check_layer(const char *path, struct err *e);

/*
 * For vm_build (vm_restore.c), after vm_restore_check. vm_restore_open: maps RAM. vm_restore_rest: the clock and devices, when
 * all are built. Return 0 or -errno with e set.
 */
int vm_restore_open(struct vm *vm, struct err *e);
int vm_restore_rest(struct vm *vm, struct err *e);

/* What `state` begins with: the shape of the VM. */
void vm_put_shape(const struct vm *vm, struct state_out *out);

#endif
