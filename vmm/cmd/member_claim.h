/* A claim becomes part of the configuration of a member. */
#ifndef MF_CMD_MEMBER_CLAIM_H
#define MF_CMD_MEMBER_CLAIM_H

#include <stdint.h>

struct config;
struct err;
struct pool_claim;
struct unix_socket;
struct words;

/*
 * Checks a claim as a client has sent it, against the pool's options (num of them), and makes its descriptors those that the VM
 * wants: a drive that is only read cannot be written through them. Returns 0, or -errno with e set, which is for the client.
 */
int member_claim_check(const struct config *c, struct pool_claim *claim, char *const *shared, unsigned num,
		       struct err *e);

/*
 * Makes the claim's streams those of this process, and adds options and command to c. Returns 0 or -errno with e set.
 */
int member_claim_apply(struct config *c, const struct pool_claim *claim, struct err *e);

/*
 * Once it is part of c: checks that the descriptors of network interfaces and of the vsock are what it says. *vsock gets the name of
 * the latter, to be removed in this process, but not the descriptor. Returns 0, or -errno with e set, which is for the client.
 */
int member_claim_adopt(const struct config *c, const struct pool_claim *claim, struct unix_socket *vsock,
		       struct err *e);

/* The socket that listens for its vsock, which stays the claim's; or -1. */
int member_claim_vsock(const struct pool_claim *claim);

/* The time limit of such a claim begins, if it has one: limit_ms gets its end. Main thread. */
void member_claim_limit(const struct config *c, uint64_t *limit_ms);

/*
 * Adds what a claim says to a command line of `mayfly restore`: its options, its files, the directory unless it is NULL, and its
 * command. Returns 0 or -errno with e set.
 */
int member_claim_words(struct words *w, const struct pool_claim *claim, const char *dir, struct err *e);

/* In the VM's process: puts the files where they are opened (fdstore.h), or into c. Returns 0 or -errno with e set. */
int member_claim_store(struct config *c, const struct pool_claim *claim, struct err *e);

/* Passes it on into the jail, with the log and, if the VM has one, the socket of c->control. Returns 0 or -errno with e set. */
int member_claim_pass(int fd, const struct config *c, const struct pool_claim *claim, int control_fd, struct err *e);

#endif
