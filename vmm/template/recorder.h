/*
 * The process that notes which pages of a template's memory a run uses, in the background. Later runs have those that will be
 * written copied before their guests run (vmm/snapshot/workingset.h), which saves a page fault and more for each.
 *
 * The first clone of a template leaves it. It looks at the memory of that VM when its command has started: so it notes what all
 * commands need, the way from the template to a root and a process. If the VM ends before, the next clone leaves another.
 */
#ifndef MF_TEMPLATE_RECORDER_H
#define MF_TEMPLATE_RECORDER_H

struct config;

/* Starts it for the VM of c, a clone of the template in dir that has no working set yet, and sets link and record_fd of c->template. */
void recorder_begin(struct config *c, const char *dir);

#endif
