/* Claims and the answers to them, as packets; see claim.h. A packet is a header, and texts that each end with a NUL. */
#include "vmm/pool/claim.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/util.h"

#define CLAIM_MAGIC 0x316d6c63U /* "clm1" */
#define STATE_FILE "state"	/* the file of a snapshot that is always there: docs/snapshot-format.md */

struct claim_header {
	uint32_t magic;
	uint32_t extras;
	uint32_t num[POOL_NUM_PARTS];
};

_Static_assert(POOL_FDS_MAX <= FDIO_FDS_MAX, "all descriptors in one packet");

int pool_claim_init(struct pool_claim *c)
{
	*c = (struct pool_claim){ .word = calloc(POOL_WORDS_MAX + 1, sizeof(*c->word)), .text = malloc(POOL_TEXT_MAX) };
	return c->word && c->text ? 0 : -ENOMEM;
}

void pool_claim_done(struct pool_claim *c)
{
	while (c->num_fds > 0)
		close(c->fd[--c->num_fds]);
	free(c->word);
	free(c->text);
	*c = (struct pool_claim){ 0 };
}

static unsigned num_words(const struct pool_claim *c, unsigned parts)
{
	unsigned num = 0;

	for (unsigned i = 0; i < parts; i++)
		num += c->num[i];
	return num;
}

unsigned pool_claim_files(const struct pool_claim *c)
{
	return c->num[POOL_DRIVES] + c->num[POOL_NETS] + c->num[POOL_VSOCK];
}

char **pool_claim_part(const struct pool_claim *c, enum pool_part part)
{
	return c->word + num_words(c, part);
}

int pool_claim_add(struct pool_claim *c, enum pool_part part, const char *word, struct err *e)
{
	const unsigned num = num_words(c, POOL_NUM_PARTS);
	const size_t len = strlen(word) + 1;

	if (num == POOL_WORDS_MAX || len > POOL_TEXT_MAX - c->len)
		return err_set(e, -E2BIG,
			       "command and environment exceed %llu KiB or %d words, which a claim has room for",
			       (unsigned long long)(POOL_TEXT_MAX / KIB), POOL_WORDS_MAX);
	c->word[num] = memcpy(c->text + c->len, word, len);
	c->len += len;
	c->num[part]++;
	return 0;
}

const char *pool_claim_differs(const struct pool_claim *c, enum pool_part part, char *const *words, unsigned num)
{
	char **own = pool_claim_part(c, part);

	for (unsigned i = 0; i < c->num[part]; i++) {
		unsigned j = 0;

		while (j < num && strcmp(own[i], words[j]) != 0)
			j++;
		if (j == num)
			return own[i];
	}
	return NULL;
}

int pool_claim_send(int fd, const struct pool_claim *c, struct err *e)
{
	struct claim_header header = { .magic = CLAIM_MAGIC, .extras = c->extras };
	const struct iovec iov[] = { { .iov_base = &header, .iov_len = sizeof(header) },
				     { .iov_base = c->text, .iov_len = c->len } };
	int r;

	memcpy(header.num, c->num, sizeof(header.num));
	r = fdio_send_packet(fd, iov, MF_ARRAY_SIZE(iov), c->fd, c->num_fds, 0);
	return r < 0 ? err_neg(e, r, "send the claim") : 0;
}

int pool_claim_parse(struct pool_claim *c, size_t len, struct err *e)
{
	unsigned total = 0, num = 0;

	for (unsigned i = 0; i < POOL_NUM_PARTS; i++) {
		if (c->num[i] > POOL_WORDS_MAX - total)
			return err_set(e, -EPROTO, "a claim of more than %d words", POOL_WORDS_MAX);
		total += c->num[i];
	}
	for (size_t at = 0; at < len; num++) {
		const char *end = memchr(c->text + at, '\0', len - at);

		if (!end || num == total)
			return err_set(e, -EPROTO, "a claim whose texts do not fit its header");
		c->word[num] = c->text + at;
		at = (size_t)(end - c->text) + 1;
	}
	if (num != total || c->num[POOL_FROM] > 1 || c->num[POOL_VSOCK] > 1)
		return err_set(e, -EPROTO, "a claim whose texts do not fit its header");
	c->len = len;
	return 0;
}

int pool_claim_receive(int fd, struct pool_claim *c, unsigned extras, struct err *e)
{
	struct claim_header header;
	struct iovec iov[] = { { .iov_base = &header, .iov_len = sizeof(header) },
			       { .iov_base = c->text, .iov_len = POOL_TEXT_MAX } };
	ssize_t n;

	c->num_fds = POOL_FDS_MAX;
	n = fdio_receive_packet(fd, iov, MF_ARRAY_SIZE(iov), c->fd, &c->num_fds);
	if (n <= 0)
		c->num_fds = 0;
	if (n == 0 || n == -ECONNRESET)
		return 0;
	if (n < 0)
		return err_neg(e, (int)n, "receive a claim");
	if ((size_t)n < sizeof(header) || header.magic != CLAIM_MAGIC || header.extras & ~extras)
		return err_set(e, -EPROTO, "what the client sends is no claim");
	memcpy(c->num, header.num, sizeof(c->num));
	c->extras = header.extras;
	if (pool_claim_parse(c, (size_t)n - sizeof(header), e) < 0)
		return e->code;
	return 1;
}

int pool_claim_peek(int fd, bool *ret_cold)
{
	struct claim_header header = { 0 };
	ssize_t n = recv(fd, &header, sizeof(header), MSG_PEEK | MSG_DONTWAIT);

	if (n < 0)
		return errno == EAGAIN ? -EAGAIN : 0;
	*ret_cold = header.extras & POOL_COLD;
	return n > 0;
}

enum pool_whose pool_whose_option(const char *word)
{
	char name[32];
	static const char *const of_claim[] = {
		"name", "env", "workdir", "user", "tty", "no-tty", "timeout", "console"
	};
	static const char *const with_file[] = { "drive", "vsock" };
	static const char *const of_pool[] = {
		"net", "jail", "io-engine", "seccomp", "no-seccomp", "log-level", "quiet"
	};

	word += strncmp(word, "--", 2) ? 0 : 2;
	if (sscanf(word, "%31[a-z-]", name) != 1)
		return POOL_OF_NOBODY;
	/* User networks are the pool's, for each VM has one of its own. */
	if (!strncmp(word, "net=", 4) && strncmp(word + 4, "user", 4) != 0)
		return strcmp(word + 4, "none") ? POOL_WITH_FILE : POOL_OF_NOBODY;
	for (size_t i = 0; i < MF_ARRAY_SIZE(of_claim); i++)
		if (!strcmp(name, of_claim[i]))
			return POOL_OF_CLAIM;
	for (size_t i = 0; i < MF_ARRAY_SIZE(with_file); i++)
		if (!strcmp(name, with_file[i]))
			return POOL_WITH_FILE;
	for (size_t i = 0; i < MF_ARRAY_SIZE(of_pool); i++)
		if (!strcmp(name, of_pool[i]))
			return POOL_OF_POOL;
	return POOL_OF_NOBODY;
}

void pool_answer_send(int fd, enum pool_answer_type type, int value, const char *text)
{
	struct pool_answer a = { .type = type, .value = value };
	size_t len = text ? strnlen(text, sizeof(a.text) - 1) : 0;

	if (text)
		memcpy(a.text, text, len);
	(void)!write(fd, &a, offsetof(struct pool_answer, text) + len + 1); /* the client has gone: it misses nothing */
}

int pool_answer_receive(int fd, struct pool_answer *ret)
{
	ssize_t n = recv(fd, ret, sizeof(*ret) - 1, 0);

	/* It has hung up without reading all of ours, and this is said before what it has sent. */
	if (n < 0 && errno == ECONNRESET)
		n = recv(fd, ret, sizeof(*ret) - 1, 0);
	if (n < 0)
		return errno == EINTR ? -EINTR : errno == ECONNRESET ? 0 : -EPROTO;
	if (n == 0)
		return 0;
	if ((size_t)n < offsetof(struct pool_answer, text) || ret->type < POOL_TAKEN || ret->type > POOL_ENDED)
		return -EPROTO;
	((char *)ret)[n] = '\0';
	return 1;
}

int pool_identity(char text[POOL_IDENTITY_MAX], const char *dir)
{
	char path[4096 + sizeof(STATE_FILE)];
	struct stat st;

	if ((size_t)snprintf(path, sizeof(path), "%s/" STATE_FILE, dir) >= sizeof(path))
		return -ENAMETOOLONG;
	if (stat(path, &st) < 0)
		return -errno;
	snprintf(text, POOL_IDENTITY_MAX, "%" PRIx64 ":%" PRIx64 ":%" PRIx64, (uint64_t)st.st_dev, (uint64_t)st.st_ino,
		 (uint64_t)st.st_ctim.tv_sec * 1000000000U + (uint64_t)st.st_ctim.tv_nsec);
	return 0;
}
