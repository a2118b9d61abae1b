/* The object that says how a run ended, and how it reaches a file or a pipe. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "vmm/base/err.h"
#include "vmm/base/result.h"

#define STATUS 7

static char dir[] = "/tmp/mayfly-result.XXXXXX";
static char path[sizeof(dir) + 16];

/* Each test ends a result, which a process does once: it runs in a child. */
static void in_child(void (*body)(void))
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		body();
		_exit(0);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void require(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "not so: %s\n", what);
	_exit(1);
}
#define REQUIRE(what) require(what, #what)

static json_t *parse(const char *text, size_t len)
{
	json_error_t error;
	json_t *o = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);

	if (!o)
		fprintf(stderr, "%s: %.*s\n", error.text, (int)len, text);
	REQUIRE(o && json_is_object(o));
	return o;
}

static json_t *text_of(int status)
{
	static struct last_words l;

	result_text(&l, status);
	REQUIRE(l.len > 0 && l.text[l.len - 1] == '\n');
	return parse(l.text, l.len);
}

static json_t *file_of(void)
{
	char text[4096];
	FILE *f = fopen(path, "re");
	size_t len = f ? fread(text, 1, sizeof(text), f) : 0;

	REQUIRE(f != NULL);
	fclose(f);
	return parse(text, len);
}

static const char *string(const json_t *o, const char *key)
{
	const char *text = json_string_value(json_object_get(o, key));

	return text ? text : "";
}

static int files(void)
{
	char command[sizeof(dir) + 32], line[16] = "";
	FILE *f;

	snprintf(command, sizeof(command), "ls -A %s | wc -l", dir);
	f = popen(command, "re");
	REQUIRE(f && fgets(line, sizeof(line), f));
	pclose(f);
	return atoi(line);
}

static int ends(enum end_cause cause, int status)
{
	result_set(cause, -1, 0);
	return result_end(status);
}

static void text_body(void)
{
	struct last_words l;
	char hostile[4000];
	json_t *o;

	result_init();
	o = text_of(STATUS);
	REQUIRE(!strcmp(string(o, "cause"), ""));
	REQUIRE(json_is_null(json_object_get(o, "status")) && json_is_null(json_object_get(o, "code")));
	REQUIRE(json_is_null(json_object_get(o, "booted")) && json_is_null(json_object_get(o, "ended")));
	REQUIRE(strlen(string(o, "started")) == strlen("2026-01-02T03:04:05.678Z"));
	/* Whatever a message has in it, and however long it is. */
	memset(hostile, '"', sizeof(hostile));
	hostile[sizeof(hostile) - 1] = '\0';
	memcpy(hostile, "\033\\\n\xff", 4);
	result_say(hostile);
	result_at(RESULT_BOOTED);
	result_had_oom();
	result_set(END_SIGNALLED, 137, 9);
	result_set(END_TIMEOUT, 1, 1); /* the first stands */
	o = text_of(STATUS);
	REQUIRE(!strcmp(string(o, "cause"), "signalled") && !strncmp(string(o, "message"), "?\\??\"\"", 6));
	REQUIRE(json_integer_value(json_object_get(o, "code")) == 137);
	REQUIRE(json_integer_value(json_object_get(o, "signal")) == 9);
	REQUIRE(json_integer_value(json_object_get(o, "status")) == STATUS);
	REQUIRE(json_is_true(json_object_get(o, "oom")) && json_is_string(json_object_get(o, "booted")));
	result_text(&l, STATUS);
	REQUIRE(l.len < sizeof(l.text));
}

static void test_text(void **state)
{
	(void)state;
	in_child(text_body);
}

static void file_body(void)
{
	struct err e;
	FILE *old = fopen(path, "we");

	REQUIRE(old && fputs("old", old) >= 0 && fclose(old) == 0);
	result_init();
	REQUIRE(result_open(path, &e) == 0 && result_fd() >= 0 && result_dir_fd() >= 0);
	REQUIRE(access(path, F_OK) < 0); /* neither the old one, nor a part of the new one */
	result_set(END_COMMAND, STATUS, 0);
	REQUIRE(ends(END_FAILED, STATUS) == 0);
	REQUIRE(!strcmp(string(file_of(), "cause"), "command"));
	REQUIRE(files() == 1); /* nothing is left beside it */
	REQUIRE(truncate(path, 0) == 0 && ends(END_FAILED, 0) == 0);
	REQUIRE(files() == 1 && access(path, F_OK) == 0);
}

static void test_file(void **state)
{
	(void)state;
	in_child(file_body);
	assert_int_equal(unlink(path), 0);
}

/* Two at once with the same file: neither of them finds a name with nothing behind it. */
static void two_body(void)
{
	struct err e;
	int status;
	pid_t pid;

	result_init();
	REQUIRE(result_open(path, &e) == 0);
	result_share();
	pid = fork();
	if (pid == 0) {
		REQUIRE(result_open(path, &e) == 0);
		raise(SIGSTOP);
		_exit(ends(END_PANIC, STATUS) == 0 ? 0 : 1);
	}
	REQUIRE(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
	REQUIRE(ends(END_TIMEOUT, STATUS) < 0);
	REQUIRE(access(path, F_OK) < 0);
	REQUIRE(kill(pid, SIGCONT) == 0 && waitpid(pid, &status, 0) == pid && status == 0);
	REQUIRE(!strcmp(string(file_of(), "cause"), "timeout") && files() == 1); /* they share the memory */
}

static void test_two_at_once(void **state)
{
	(void)state;
	in_child(two_body);
	assert_int_equal(unlink(path), 0);
}

static void inside_body(void)
{
	struct err e;
	int status;
	pid_t pid;

	result_init();
	REQUIRE(result_open(path, &e) == 0);
	result_share();
	pid = fork();
	if (pid == 0) {
		result_leave();
		result_at(RESULT_COMMAND);
		result_set(END_COMMAND, STATUS, 0);
		_exit(ends(END_FAILED, STATUS));
	}
	REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
	REQUIRE(access(path, F_OK) < 0);
	REQUIRE(ends(END_KILLED, STATUS) == 0);
	REQUIRE(!strcmp(string(file_of(), "cause"), "command") && *string(file_of(), "command_started"));
}

static void test_inside_of_a_jail(void **state)
{
	(void)state;
	in_child(inside_body);
	assert_int_equal(unlink(path), 0);
}

static void pipe_body(void)
{
	char name[32], text[4096];
	struct err e;
	ssize_t n;
	int fd[2];

	result_init();
	REQUIRE(pipe(fd) == 0);
	snprintf(name, sizeof(name), "/dev/fd/%d", fd[1]);
	REQUIRE(result_open(name, &e) == 0 && result_dir_fd() < 0);
	REQUIRE(ends(END_TIMEOUT, STATUS) == 0);
	n = read(fd[0], text, sizeof(text));
	REQUIRE(n > 0 && !strcmp(string(parse(text, (size_t)n), "cause"), "timeout"));
}

/* A reader that does not read, and the file descriptor that waits for it. */
static void full_pipe_body(void)
{
	static char junk[1 << 16];
	char name[32];
	struct err e;
	int fd[2];

	REQUIRE(pipe(fd) == 0 && fcntl(fd[1], F_SETPIPE_SZ, 4096) == 4096 && write(fd[1], junk, 4096) == 4096);
	snprintf(name, sizeof(name), "/dev/fd/%d", fd[1]);
	REQUIRE(result_open(name, &e) == 0);
	alarm(10);
	REQUIRE(ends(END_TIMEOUT, STATUS) < 0);
}

static void test_pipe(void **state)
{
	(void)state;
	in_child(pipe_body);
	in_child(full_pipe_body);
}

static void refused_body(void)
{
	char fifo[sizeof(path) + 8], missing[sizeof(path) + 8];
	struct err e;

	snprintf(fifo, sizeof(fifo), "%s.fifo", path);
	snprintf(missing, sizeof(missing), "%s/x", path);
	REQUIRE(mkfifo(fifo, 0600) == 0);
	alarm(10);
	REQUIRE(result_open(fifo, &e) == -ENXIO); /* nobody reads it: that is not waited for */
	REQUIRE(unlink(fifo) == 0);
	REQUIRE(result_open(missing, &e) < 0 && strstr(e.text, missing));
	REQUIRE(result_open(dir, &e) < 0);
	REQUIRE(result_open("/dev/fd/999", &e) == -EBADF);
	REQUIRE(result_open("", &e) < 0);
	REQUIRE(ends(END_FAILED, 1) == 0 && files() == 0);
}

static void test_what_is_refused(void **state)
{
	(void)state;
	in_child(refused_body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),	    cmocka_unit_test(test_file),
		cmocka_unit_test(test_two_at_once), cmocka_unit_test(test_inside_of_a_jail),
		cmocka_unit_test(test_pipe),	    cmocka_unit_test(test_what_is_refused),
	};
	int r;

	if (!mkdtemp(dir))
		return 1;
	snprintf(path, sizeof(path), "%s/result.json", dir);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	return rmdir(dir) < 0 ? 1 : r;
}
