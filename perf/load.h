/* What perf/load.c, load_files.c and load_net.c share: see load.c. */
#ifndef MF_PERF_LOAD_H
#define MF_PERF_LOAD_H

#include <stdbool.h>
#include <stdint.h>

#define LOAD_WORDS_MAX 6

struct job {
	const char *word[LOAD_WORDS_MAX]; /* "" where there is none */
	uint64_t num[LOAD_WORDS_MAX];	  /* the same as numbers */
	uint64_t ops;			  /* what the job has counted */
};

__attribute__((noreturn)) void load_die(const char *what);

/* Between these two the job is measured. */
void load_begin(void);
void load_end(void);

void disk_job(struct job *job);
void net_job(struct job *job);
void files_job(struct job *job);
/* Mounts what files_job uses by the virtio transport of 9P, as init mounts a live directory by vsock. */
void files_mount(const char *tag);
/* On the host: serves the addresses until it is killed. */
int net_serve(char **addresses, int num);

#endif
