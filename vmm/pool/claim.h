/*
 * What a client of a pool sends, and what it receives. A message is a packet (SOCK_SEQPACKET); all numbers are the host's, for
 * both sides are the same program.
 *
 *	client -- claim: texts, its streams and files as descriptors -->       member (the pool has passed the connection on)
 *	       <- POOL_TAKEN, POOL_ENDED                               --
 *	       <- POOL_REFUSED, or POOL_EMPTY: a clone of its own      --      member, or pool
 *	       -- a byte for each signal                               -->     member
 *
 * Until POOL_TAKEN, the guest has not got the command, so a client that is hung up on starts a clone of its own.
 */
#ifndef MF_POOL_CLAIM_H
#define MF_POOL_CLAIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/util.h"

struct err;

#define POOL_STREAMS 3 /* stdin, stdout, stderr: the first descriptors */
#define POOL_DRIVES_MAX 8
#define POOL_TEXT_MAX (128 * KIB) /* bytes of a claim: a packet has room for it, whatever the host's limits are */
#define POOL_WORDS_MAX 4096	  /* of all parts */
#define POOL_NETS_MAX 8
#define POOL_FDS_MAX (POOL_STREAMS + POOL_DRIVES_MAX + POOL_NETS_MAX + 1 + 2)

/* The parts of a claim, each a list of words. */
enum pool_part {
	POOL_FROM,    /* the identity of the snapshot, if the client names one (pool_identity) */
	POOL_SHARED,  /* options that are the pool's: it has to have been started with each */
	POOL_OPTIONS, /* options of `mayfly restore` that are the VM's own, as --NAME=VALUE or --NAME */
	POOL_DRIVES,  /* ID=PATH, each with a descriptor */
	POOL_NETS,    /* tap=NAME or fd=N, the same */
	POOL_VSOCK,   /* one PATH at most, with a socket that listens there */
	POOL_COMMAND,
	POOL_NUM_PARTS,
};

/* Descriptors that follow those of drives, nets and vsock: of the process outside of a jail for the one inside. */
#define POOL_LOG 1U	/* where the log goes */
#define POOL_CONTROL 2U /* the socket that listens at the name of the control socket */

/* Of a client: only a VM whose guest has not run can serve it, for it brings no COMMAND, or wants the console. */
#define POOL_COLD 4U
#define POOL_RUNS_TEXT "so it takes a COMMAND and no --console" /* of a pool whose guests have run */

struct pool_claim {
	char **word; /* POOL_WORDS_MAX */
	unsigned num[POOL_NUM_PARTS];
	unsigned extras; /* a set of POOL_LOG, POOL_CONTROL, POOL_COLD */
	int fd[POOL_FDS_MAX];
	unsigned num_fds;
	char *text; /* of the words; owned */
	size_t len;
};

/* An empty one. pool_claim_done also closes its descriptors. Returns 0 or -ENOMEM. */
int pool_claim_init(struct pool_claim *c);
void pool_claim_done(struct pool_claim *c);

/* Adds a word; parts are filled in their order. Returns 0, or -E2BIG with e set. */
int pool_claim_add(struct pool_claim *c, enum pool_part part, const char *word, struct err *e);

/* The first word of a part, of num[part]. */
char **pool_claim_part(const struct pool_claim *c, enum pool_part part);

/* The first word of the part that is not among these, or NULL. */
const char *pool_claim_differs(const struct pool_claim *c, enum pool_part part, char *const *words, unsigned num);

/* Sends it with its descriptors, which stay here. Returns 0 or -errno with e set. */
int pool_claim_send(int fd, const struct pool_claim *c, struct err *e);

/*
 * Receives one into an empty claim. extras: what the sender may add. Returns 1; 0 if the sender has hung up; or -errno with e
 * set: it sends what is no claim.
 */
int pool_claim_receive(int fd, struct pool_claim *c, unsigned extras, struct err *e);

/*
 * Looks at a claim that stays unread, if there is one. Returns 1, and whether it has POOL_COLD; 0 if the sender has hung up; or
 * -EAGAIN: it has sent nothing yet. Anything that is no claim is left to its receiver.
 */
int pool_claim_peek(int fd, bool *ret_cold);

/* Reads the texts of a packet, len bytes of c->text. Returns 0, or -EPROTO with e set. */
int pool_claim_parse(struct pool_claim *c, size_t len, struct err *e);

/* How many descriptors of its parts follow the streams. */
unsigned pool_claim_files(const struct pool_claim *c);

/*
 * Whether an option of `mayfly restore`, NAME, "--NAME" or "--NAME=VALUE", is the VM's own in a claim, with a descriptor in a part
 * of its own, or without; or the pool's; or neither.
 */
enum pool_whose { POOL_OF_CLAIM, POOL_WITH_FILE, POOL_OF_POOL, POOL_OF_NOBODY };
enum pool_whose pool_whose_option(const char *word);

enum pool_answer_type {
	POOL_TAKEN = 1, /* the VM is the client's from here on */
	POOL_REFUSED,	/* text: why */
	/*
	 * No member waits; or, with text, none that can serve it. A packet of pool_claim_send follows, with the snapshot's path and
	 * the pool's options.
	 */
	POOL_EMPTY,
	POOL_ENDED, /* value: the status of the VM's process, or -n for signal n */
};

struct pool_answer {
	uint32_t type;
	int32_t value;
	char text[512];
};

/* Without text, it is async-signal-safe, and one write(2). A client that has gone misses nothing. */
void pool_answer_send(int fd, enum pool_answer_type type, int value, const char *text);

/* Returns 1; 0 if the other side has hung up; -EINTR; or -EPROTO: what it sends is none. */
int pool_answer_receive(int fd, struct pool_answer *ret);

#define POOL_IDENTITY_MAX 64

/* Which snapshot is at that path: a text that changes when it is replaced. Returns 0 or -errno. */
int pool_identity(char text[POOL_IDENTITY_MAX], const char *dir);

#endif
