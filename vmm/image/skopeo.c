/* How skopeo is called; see skopeo.h. */
#include "vmm/image/skopeo.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/printable.h"
#include "vmm/base/util.h"
#include "vmm/image/reference.h"
#include "vmm/image/sandbox.h"

#define ANSWER_TIMEOUT "30s"
#define COPY_TIMEOUT "1h"
#define SAID_MAX 8192
#define LIST_MAX (4 * MIB) /* bytes of a manifest list: containers/image has this limit */
#define PLATFORMS_SHOWN 16
#define NO_PLATFORM "no image found" /* skopeo's words, if a list has none for this machine */

/* Where skopeo finds its configuration and credentials: below these variables' directories, or in them. */
static const struct place {
	const char *variable, *below;
} places[] = {
	{ "HOME", "/.config/containers" },
	/* or docker's */
	{ "HOME", "/.docker" },
	{ "DOCKER_CONFIG", "" },
	/* */
	{ "XDG_RUNTIME_DIR", "/containers" },
	{ "REGISTRY_AUTH_FILE", "" },
	/* */
	{ "SSL_CERT_FILE", "" },
	{ "SSL_CERT_DIR", "" },
};

/* The paths that a call of skopeo needs; freed after it. */
struct paths {
	char *place[MF_ARRAY_SIZE(places)];
	char *resolver;	     /* what /etc/resolv.conf leads to */
	char *storage, *uid; /* of an ordinary user's storage */
};

static void add_paths(struct sandbox *s, struct paths *paths)
{
	*paths = (struct paths){ .resolver = NULL };
	sandbox_add(s, "--ro-bind", "/etc", "/etc", "--ro-bind-try", "/run/containers", "/run/containers", NULL);
	paths->resolver = realpath("/etc/resolv.conf", NULL);
	if (paths->resolver && strncmp(paths->resolver, "/etc/", strlen("/etc/")) != 0)
		sandbox_add(s, "--ro-bind", paths->resolver, paths->resolver, NULL);
	for (size_t i = 0; i < MF_ARRAY_SIZE(places); i++) {
		const char *value = getenv(places[i].variable);

		paths->place[i] = NULL;
		if (!value || *value != '/' || asprintf(&paths->place[i], "%s%s", value, places[i].below) < 0)
			paths->place[i] = NULL;
		if (paths->place[i])
			sandbox_add(s, "--ro-bind-try", paths->place[i], paths->place[i], NULL);
	}
}

/*
 * podman's storage, which skopeo locks, so it must be able to write there. An ordinary user's
 * has files of subordinate ids; skopeo would make a user namespace for them, which the sandbox
 * is in already. Root's skopeo mounts there: for these images, which podman has unpacked as
 * root before, the sandbox keeps nothing from it.
 */
static void add_storage(struct sandbox *s, struct paths *paths)
{
	const char *home = getenv("HOME");

	if (geteuid() == 0) {
		sandbox_add(s, "--bind-try", "/var/lib/containers", "/var/lib/containers", "--bind-try",
			    "/run/containers", "/run/containers", "--cap-add", "CAP_SYS_ADMIN", NULL);
		return;
	}
	if (asprintf(&paths->storage, "%s/.local/share/containers", home && *home == '/' ? home : "") < 0 ||
	    asprintf(&paths->uid, "%u", (unsigned)geteuid()) < 0) {
		paths->storage = NULL; /* asprintf leaves it undefined; skopeo will find no storage */
		return;
	}
	sandbox_add(s, "--bind-try", paths->storage, paths->storage, "--setenv", "_CONTAINERS_USERNS_CONFIGURED",
		    "done", "--setenv", "_CONTAINERS_ROOTLESS_UID", paths->uid, NULL);
}

static void free_paths(struct paths *paths)
{
	free(paths->resolver);
	free(paths->storage);
	free(paths->uid);
	for (size_t i = 0; i < MF_ARRAY_SIZE(places); i++)
		free(paths->place[i]);
}

/* A sandbox with what the reference names. */
static void begin(struct sandbox *s, const struct image_reference *ref, const char *work, uint64_t file_max,
		  struct paths *paths)
{
	if (ref->kind == REFERENCE_STORAGE)
		sandbox_begin_ids(s, "skopeo", "skopeo", work);
	else
		sandbox_begin_network(s, "skopeo", "skopeo", work);
	add_paths(s, paths);
	switch (ref->kind) {
	case REFERENCE_REGISTRY:
		break;
	case REFERENCE_FILES:
		sandbox_add(s, "--ro-bind", ref->path, ref->path, NULL);
		break;
	case REFERENCE_DAEMON:
		sandbox_add(s, "--symlink", "/run", "/var/run", "--ro-bind-try", "/run/docker.sock", "/run/docker.sock",
			    NULL);
		break;
	case REFERENCE_STORAGE:
		add_storage(s, paths);
		break;
	}
	sandbox_program(s, file_max);
}

/* Adds "OS/ARCHITECTURE[/VARIANT]", if there is room. */
static void add_platform(char *text, size_t size, const json_t *platform)
{
	const char *os = json_string_value(json_object_get(platform, "os"));
	const char *arch = json_string_value(json_object_get(platform, "architecture"));
	const char *variant = json_string_value(json_object_get(platform, "variant"));
	char one[64];
	size_t len = strlen(text);

	snprintf(one, sizeof(one), "%s/%s%s%s", os ? os : "?", arch ? arch : "?", variant ? "/" : "",
		 variant ? variant : "");
	printable_guest(one, sizeof(one), one);
	snprintf(text + len, size - len, "%s%s", len ? ", " : "", one);
}

/* The platforms of the list that skopeo has printed to out; or nothing. */
static void read_platforms(int out, char *text, size_t size)
{
	MF_FREE char *list = malloc(LIST_MAX);
	const ssize_t len = list ? fdio_pread(out, list, LIST_MAX, 0) : -1;
	json_t *json = len > 0 ? json_loadb(list, (size_t)len, 0, NULL) : NULL;
	const json_t *manifest;
	size_t i;

	*text = '\0';
	json_array_foreach(json_object_get(json, "manifests"), i, manifest)
		if (i < PLATFORMS_SHOWN)
			add_platform(text, size, json_object_get(manifest, "platform"));
	json_decref(json);
}

/* The list has no image for this machine: e says for which it has. If skopeo does not say, e stays. */
static void name_platforms(const struct image_reference *ref, const char *work, uint64_t file_max, struct err *e)
{
	MF_CLOSE int out = memfd_create("mayfly-list", MFD_CLOEXEC);
	char said[SAID_MAX], platforms[512];
	struct paths paths;
	struct sandbox s;
	struct err none;
	int r;

	if (out < 0)
		return;
	begin(&s, ref, work, file_max, &paths);
	s.out = out;
	sandbox_add(&s, "--command-timeout", ANSWER_TIMEOUT, "inspect", "--raw", ref->text, NULL);
	r = sandbox_run(&s, said, sizeof(said), &none);
	free_paths(&paths);
	if (r < 0)
		return;
	read_platforms(out, platforms, sizeof(platforms));
	if (*platforms)
		err_set(e, -ENOENT, "the image is for %s, and not for linux/amd64", platforms);
}

int skopeo_digest(const struct image_reference *ref, const char *work, uint64_t file_max,
		  char digest[SKOPEO_DIGEST_MAX], struct err *e)
{
	MF_CLOSE int out = memfd_create("mayfly-digest", MFD_CLOEXEC);
	char said[SAID_MAX];
	struct sandbox s;
	struct paths paths;
	ssize_t len;
	int r;

	if (out < 0)
		return err_sys(e, "make a file for a digest");
	begin(&s, ref, work, file_max, &paths);
	s.out = out;
	sandbox_add(&s, "--command-timeout", ANSWER_TIMEOUT, "inspect", "--no-tags", "--format", "{{.Digest}}",
		    ref->text, NULL);
	r = sandbox_run(&s, said, sizeof(said), e);
	free_paths(&paths);
	if (r < 0) {
		if (strstr(said, NO_PLATFORM))
			name_platforms(ref, work, file_max, e);
		return e->code;
	}
	len = fdio_pread(out, digest, SKOPEO_DIGEST_MAX - 1, 0);
	digest[MF_MAX(len, (ssize_t)0)] = '\0';
	digest[strcspn(digest, "\n")] = '\0';
	for (const char *c = digest; *c; c++)
		if (!isalnum((unsigned char)*c) && *c != ':')
			*digest = '\0';
	return *digest ? 0 : err_set(e, -ECHILD, "skopeo has named no digest");
}

int skopeo_copy(const struct image_reference *ref, const char *digest, const char *work, uint64_t file_max,
		const char *layout, bool show, struct err *e)
{
	MF_FREE char *from = image_reference_at(ref, digest);
	MF_FREE char *to = NULL;
	char said[SAID_MAX];
	struct sandbox s;
	struct paths paths;
	int r;

	if (!from || asprintf(&to, "oci:%s", layout) < 0) {
		to = NULL; /* asprintf leaves it undefined */
		return err_set(e, -ENOMEM, "out of memory");
	}
	begin(&s, ref, work, file_max, &paths);
	if (show && isatty(STDERR_FILENO))
		s.out = STDERR_FILENO;
	sandbox_add(&s, "--command-timeout", COPY_TIMEOUT, "copy", "--remove-signatures", "--dest-compress-format",
		    "gzip", from, to, NULL);
	r = sandbox_run(&s, said, sizeof(said), e);
	free_paths(&paths);
	return r;
}
