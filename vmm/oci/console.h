/* The terminal of a container, for the engine that holds its other end. */
#ifndef MF_OCI_CONSOLE_H
#define MF_OCI_CONSOLE_H

struct err;

struct spec;

/*
 * Makes a pseudo terminal of the process's size, sends its master to the Unix socket at path, and makes its slave this
 * process's controlling terminal, stdin, stdout and stderr. The process leads a session. Returns 0 or -errno with e set.
 */
int console_attach(const char *path, const struct spec *s, struct err *e);

#endif
