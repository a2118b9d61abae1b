/*
 * The gate between the vCPU threads and the guest. The main thread closes it to pause them; each thread parks at it when it
 * leaves KVM_RUN. It has a lock of its own, under which nothing else is called, and knows nothing of KVM or of the VM.
 */
#ifndef MF_VM_GATE_H
#define MF_VM_GATE_H

#include <pthread.h>
#include <stdbool.h>

struct gate {
	pthread_mutex_t lock;
	pthread_cond_t came;   /* a thread has parked or left: wakes the main thread */
	pthread_cond_t opened; /* wakes parked threads */
	bool closed;
	unsigned inside; /* threads that have not left */
	unsigned parked; /* those of them that wait for the gate to open */
};

/* A gate that is open, with no thread inside. */
#define GATE_INIT                                                                                                      \
	{                                                                                                              \
		.lock = PTHREAD_MUTEX_INITIALIZER, .came = PTHREAD_COND_INITIALIZER,                                   \
		.opened = PTHREAD_COND_INITIALIZER,                                                                    \
	}

/* A thread was started that will call gate_leave. Main thread, before it waits for the thread by a function below. */
void gate_enter(struct gate *g);

/*
 * Pausing. Main thread. gate_close makes threads park that come to the gate; the caller makes them come (vcpu_kick).
 * gate_await_parked returns true when all that are inside have parked, or false after timeout_ms: a thread may be inside
 * loop_call on a slow drive. gate_open must follow in both cases.
 */
void gate_close(struct gate *g);
bool gate_await_parked(struct gate *g, unsigned timeout_ms);
void gate_open(struct gate *g);

/* Waits until every thread has left: the gate is open, and what they do has ended. Main thread. */
void gate_await_left(struct gate *g);

/* For a thread that has left KVM_RUN: returns at once, or when the gate opens. */
void gate_park(struct gate *g);

/*
 * The thread has nothing more to do with the VM. It stays here until the process ends, so that its filter need not allow
 * the system calls with which a thread ends.
 */
void gate_leave(struct gate *g) __attribute__((noreturn));

#endif
