/*
 * evhttp asks for the name of each client, also of one on a Unix socket. This answers it in
 * place of glibc's function, which would bring the name service and the resolver into a static
 * program. What else libevent has of that kind is never called (UNUSED in the Makefile).
 */
#include <netdb.h>
#include <stdio.h>

int getnameinfo(const struct sockaddr *restrict addr, socklen_t len, char *restrict host, socklen_t host_size,
		char *restrict service, socklen_t service_size, int flags)
{
	(void)addr;
	(void)len;
	(void)flags;
	if (host)
		snprintf(host, host_size, "localhost");
	if (service)
		snprintf(service, service_size, "0");
	return 0;
}
