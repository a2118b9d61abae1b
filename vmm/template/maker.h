/*
 * The process that makes a template, in the background.
 *
 * It is forked first of all, so that it is neither in the run's jail nor in the control group of that, and it
 * closes all files of the run, and leaves its session and its environment. It waits until the run has ended, or its command has run for a
 * second: then the shape is known to work, and the run is not delayed. One template is made at a time (a lock in
 * the cache); a maker that finds another one at work ends. It works with the lowest priority, and for a bounded time.
 *
 *	run            template_begin: forks ---------> maker: waits for the end of the pipe, or MAKER_WAIT_MS
 *	               ... the command, the end                   |  locks the cache, makes the files, forks
 *	                                                          |---> a VM of the shape: boots, is saved, ends
 *	                                                          |  writes `shape`, syncs, renames
 *
 * What a maker leaves that is killed has a temporary name, and is removed by the next use of the cache.
 */
#ifndef MF_TEMPLATE_MAKER_H
#define MF_TEMPLATE_MAKER_H

struct config;
struct shape;

/* Starts it for the VM of c, if that is possible, and sets c->template.link. */
void maker_begin(struct config *c, const struct shape *s);

#endif
