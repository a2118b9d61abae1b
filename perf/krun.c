/*
 * The program for libkrun, which is a library: makes a VM with what its arguments say, and starts it. "-" is none.
 *
 *	krun-starter LIBKRUN.so CPUS MIB KERNEL INITRD DISK VSOCK COMMAND-LINE
 */
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT_ELF 1
#define PORT_MIN 7001U
#define PORT_MAX 7003U

static void *lib;

static void *find(const char *name)
{
	void *found = dlsym(lib, name);

	if (!found) {
		fprintf(stderr, "krun-starter: %s\n", dlerror());
		exit(1);
	}
	return found;
}

static void must(const char *what, int32_t r)
{
	if (r < 0) {
		fprintf(stderr, "krun-starter: %s: %s\n", what, strerror(-r));
		exit(1);
	}
}

static const char *given(const char *word)
{
	return strcmp(word, "-") ? word : NULL;
}

/* A port of the guest leads to a Unix socket, whose name has its number, as the other monitors have it. */
static void add_vsock(uint32_t vm, const char *socket)
{
	int32_t (*add_port)(uint32_t, uint32_t, const char *) = find("krun_add_vsock_port");
	char path[108];

	for (uint32_t port = PORT_MIN; port <= PORT_MAX; port++) {
		snprintf(path, sizeof(path), "%s_%u", socket, port);
		must("vsock", add_port(vm, port, path));
	}
}

int main(int argc, char **argv)
{
	int32_t (*create)(void), (*enter)(uint32_t), (*set_size)(uint32_t, uint8_t, uint32_t);
	int32_t (*set_kernel)(uint32_t, const char *, uint32_t, const char *, const char *);
	int32_t (*add_disk)(uint32_t, const char *, const char *, bool);
	int32_t vm;

	if (argc != 9) {
		fputs("usage: krun-starter LIBKRUN.so CPUS MIB KERNEL INITRD DISK VSOCK COMMAND-LINE\n", stderr);
		return 2;
	}
	lib = dlopen(argv[1], RTLD_NOW);
	if (!lib) {
		fprintf(stderr, "krun-starter: %s\n", dlerror());
		return 1;
	}
	create = find("krun_create_ctx");
	set_size = find("krun_set_vm_config");
	set_kernel = find("krun_set_kernel");
	enter = find("krun_start_enter");
	vm = create();
	must("krun_create_ctx", vm);
	must("size", set_size((uint32_t)vm, (uint8_t)atoi(argv[2]), (uint32_t)atoi(argv[3])));
	must("kernel", set_kernel((uint32_t)vm, argv[4], FORMAT_ELF, given(argv[5]), argv[8]));
	if (given(argv[6])) {
		add_disk = find("krun_add_disk");
		must("disk", add_disk((uint32_t)vm, "d0", argv[6], false));
	}
	if (given(argv[7]))
		add_vsock((uint32_t)vm, argv[7]);
	must("krun_start_enter", enter((uint32_t)vm));
	return 0;
}
