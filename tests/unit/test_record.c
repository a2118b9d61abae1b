/* Records of VMs: what is written is read; torn, hostile and foreign files; locks, reused PIDs, and cleaning. */
#include "tests/unit/config_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/util.h"
#include "vmm/records/record.h"

#define USER 54321

static char dir[] = "/tmp/mayfly-test-record-XXXXXX";
static bool was_root;

static const char *in_vms(const char *name)
{
	static char path[2][200];
	static unsigned at;

	at = !at;
	snprintf(path[at], sizeof(path[at]), "%s/mayfly/vms/%s", dir, name);
	return path[at];
}

static int open_vms(void)
{
	int fd = records_open(true, &err);

	assert_true(fd >= 0);
	return fd;
}

/* A VM of this process. */
static struct record_writer begin(const char *name)
{
	struct record_writer w = RECORD_WRITER_INIT;

	free(conf.name);
	conf.name = name ? strdup(name) : NULL;
	if (record_begin(&w, &conf, &err) < 0)
		fail_msg("%s", err.text);
	return w;
}

static void end(struct record_writer *w)
{
	close(w->fd);
	close(w->dir);
}

static void put_file(const char *name, const char *text, size_t len)
{
	int fd = open(in_vms(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), len);
	close(fd);
}

static int read_state(const char *name)
{
	MF_CLOSE int vms = open_vms();
	struct record r;
	int state = record_read(vms, name, &r, &err);

	if (state < 0)
		return state;
	state = (int)r.state;
	record_done(&r);
	return state;
}

static int clean(void)
{
	MF_CLOSE int vms = open_vms();

	return records_clean(vms, &err);
}

static void test_a_life(void **state)
{
	struct record_writer w;
	struct record r;

	(void)state;
	assert_int_equal(config_set(&conf, "command", "sl\"eep\xff", &err), 0);
	assert_int_equal(config_set(&conf, "command", "1", &err), 0);
	conf.kernel = strdup("vm\"linux");
	w = begin("web.1");
	assert_int_equal(record_find("web.1", &r, &err), 0);
	assert_int_equal(r.state, RECORD_STARTING);
	assert_true(r.alive);
	assert_int_equal(r.pid, getpid());
	assert_true(r.start_ticks > 0);
	assert_int_equal(r.start_ticks, record_start_ticks(getpid()));
	assert_string_equal(json_string_value(json_array_get(json_object_get(r.json, "command"), 0)), "sl\"eep?");
	assert_true(record_text(&r, "kernel")[0] == '/');
	record_add_text(&w, "cgroup", "/x");
	record_started(&w);
	assert_int_equal(record_update(&r), 0);
	assert_int_equal(r.state, RECORD_RUNNING);
	assert_string_equal(record_text(&r, "cgroup"), "/x");
	assert_true(fabs(record_time(&r, "started") - record_time(&r, "created")) < 60);
	record_end(&w, END_COMMAND, 7);
	record_end(&w, END_FAILED, 125);
	end(&w);
	assert_int_equal(record_update(&r), 0);
	assert_int_equal(r.state, RECORD_ENDED);
	assert_false(r.alive);
	assert_int_equal(record_number(&r, "code"), 7);
	assert_string_equal(record_text(&r, "cause"), "command");
	record_done(&r);
}

/* A VM without a name leaves nothing; those who have its record open still read how it ended. */
static void test_without_a_name(void **state)
{
	struct record_writer w = begin(NULL);
	struct record r;

	(void)state;
	assert_int_equal(record_find(w.name, &r, &err), 0);
	record_end(&w, END_SIGNAL, 143);
	assert_int_equal(read_state(w.name), -ENOENT);
	end(&w);
	assert_int_equal(record_update(&r), 0);
	assert_int_equal(record_number(&r, "code"), 143);
	record_done(&r);
}

static void test_a_name_is_taken_once(void **state)
{
	struct record_writer w = begin("one"), again = RECORD_WRITER_INIT;

	(void)state;
	assert_int_equal(record_begin(&again, &conf, &err), -EEXIST);
	end(&w);
	assert_int_equal(read_state("one"), RECORD_LOST);
	w = begin("one"); /* of one that was killed */
	record_end(&w, END_COMMAND, 0);
	assert_int_equal(record_begin(&again, &conf, &err), -EEXIST); /* it has ended, and still closes its VM */
	end(&w);
	w = begin("one");
	end(&w);
}

/* Many at once want the same name, while others list and clean: one gets it. */
static void test_a_race_for_a_name(void **state)
{
	int won = 0, status;

	(void)state;
	for (unsigned i = 0; i < 40; i++) {
		struct record_writer w = RECORD_WRITER_INIT;
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (pid)
			continue;
		if (i % 2) {
			for (unsigned n = 0; n < 20; n++)
				if (clean() < 0)
					_exit(2);
			_exit(1);
		}
		conf.name = strdup("race");
		if (record_begin(&w, &conf, &err) < 0)
			_exit(err.code == -EEXIST ? 1 : 2);
		usleep(1000000);
		_exit(0);
	}
	while (wait(&status) > 0) {
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) != 2);
		won += WEXITSTATUS(status) == 0;
	}
	assert_int_equal(won, 1);
}

static void test_torn(void **state)
{
	struct record_writer w = begin("torn");
	MF_CLOSE int vms = open_vms();
	struct record r;
	struct stat st;

	(void)state;
	record_started(&w);
	assert_int_equal(record_find("torn", &r, &err), 0);
	record_note_kill(&r);
	record_done(&r);
	assert_int_equal(write(w.fd, "{\"ended\":12", 11), 11);
	assert_int_equal(read_state("torn"), RECORD_RUNNING);
	end(&w);
	assert_int_equal(record_settle(vms, "torn", END_LOST), 0);
	assert_int_equal(record_settle(vms, "torn", END_FAILED), 0); /* it has said so */
	assert_int_equal(record_find("torn", &r, &err), 0);
	assert_int_equal(r.state, RECORD_ENDED);
	assert_int_equal(record_number(&r, "code"), 137);
	assert_string_equal(record_text(&r, "cause"), "killed");
	assert_int_equal(fstat(r.fd, &st), 0);
	assert_int_equal(r.good, st.st_size);
	record_done(&r);
	/* The first line alone matters: a record that breaks off there is none. */
	put_file("torn", "{\"mayfly\":1,", 12);
	assert_int_equal(read_state("torn"), -EBADMSG);
	put_file("torn", "", 0);
	assert_int_equal(read_state("torn"), -EBADMSG);
}

static void test_hostile_text(void **state)
{
	static const char *const bad[] = {
		"{\"mayfly\":1,\"name\":\"bad\",\"id\":\"0\",\"pid\":0}\n",
		"{\"mayfly\":1,\"name\":\"bad\",\"id\":\"0\",\"pid\":-1}\n",
		"{\"mayfly\":1,\"name\":\"bad\",\"id\":\"0\",\"pid\":4294967297}\n",
		"{\"mayfly\":1,\"name\":\"bad\",\"id\":\"0\",\"pid\":\"1\"}\n",
		"{\"mayfly\":1,\"name\":\"other\",\"id\":\"0\",\"pid\":1}\n",
		"{\"mayfly\":1,\"name\":\"bad\",\"pid\":1}\n",
		"{\"mayfly\":1,\"name\":\"bad\",\"id\":3,\"pid\":1}\n",
		"{\"mayfly\":2,\"name\":\"bad\",\"id\":\"0\",\"pid\":1}\n",
		"{\"mayfly\":1,\"name\":\"bad\",\"id\":\"0\",\"pid\":1,\"pid\":2}\n",
		"{\"mayfly\":1,\"name\":\"bad\",\"id\":\"0\",\"pid\":1,\"created\":1e300}\n",
		"{\"mayfly\":1,\"name\":\"bad\",\"id\":\"0\",\"pid\":1,\"control\":[]}\n",
		"[]\n",
		"\n",
		"null\n{\"mayfly\":1,\"name\":\"bad\",\"id\":\"0\",\"pid\":1}\n",
	};
	static const char good[] = "{\"mayfly\":1,\"name\":\"bad\",\"id\":\"0\",\"pid\":1}\n";
	char *large;

	(void)state;
	close(open_vms());
	put_file("bad", good, sizeof(good) - 1);
	assert_int_equal(read_state("bad"), RECORD_LOST);
	for (size_t i = 0; i < MF_ARRAY_SIZE(bad); i++) {
		put_file("bad", bad[i], strlen(bad[i]));
		if (read_state("bad") != -EBADMSG)
			fail_msg("accepted: %s", bad[i]);
	}
	large = malloc(10 << 20);
	assert_non_null(large);
	memset(large, '\n', 10 << 20);
	memcpy(large, good, sizeof(good) - 1);
	put_file("bad", large, 10 << 20);
	assert_int_equal(read_state("bad"), -EBADMSG);
	memset(large, '[', 60000); /* deep */
	put_file("bad", large, 60001);
	assert_int_equal(read_state("bad"), -EBADMSG);
	free(large);
	assert_int_equal(unlink(in_vms("bad")), 0);
	assert_int_equal(read_state("../vms/bad"), -ENOENT);
	assert_int_equal(read_state(".."), -ENOENT);
	assert_int_equal(read_state(""), -ENOENT);
}

/* Nothing of these is a record: neither is one listed nor followed. */
static void test_foreign_files(void **state)
{
	static const char text[] = "{\"mayfly\":1,\"name\":\"x\",\"id\":\"0\",\"pid\":1}\n";
	MF_CLOSE int vms = open_vms();
	struct record *list;
	size_t num;

	(void)state;
	put_file("x", text, sizeof(text) - 1);
	assert_int_equal(read_state("x"), RECORD_LOST);
	assert_int_equal(chmod(in_vms("x"), 0620), 0);
	assert_int_equal(read_state("x"), -EBADMSG);
	assert_int_equal(chmod(in_vms("x"), 0600), 0);
	assert_int_equal(rename(in_vms("x"), in_vms("y")), 0);
	assert_int_equal(symlink("y", in_vms("x")), 0);
	assert_int_equal(read_state("x"), -EBADMSG);
	assert_int_equal(unlink(in_vms("x")), 0);
	assert_int_equal(mkfifo(in_vms("x"), 0600), 0);
	assert_int_equal(read_state("x"), -EBADMSG);
	assert_int_equal(unlink(in_vms("x")), 0);
	assert_int_equal(unlink(in_vms("y")), 0);
	assert_int_equal(mkdir(in_vms("x"), 0700), 0);
	assert_int_equal(read_state("x"), -EBADMSG);
	assert_int_equal(rmdir(in_vms("x")), 0);
	if (was_root) {
		assert_int_equal(seteuid(0), 0);
		put_file("x", text, sizeof(text) - 1);
		put_file("closed", text, sizeof(text) - 1);
		assert_int_equal(chmod(in_vms("x"), 0666), 0);
		assert_int_equal(seteuid(USER), 0);
		assert_int_equal(read_state("x"), -EBADMSG);
		assert_int_equal(read_state("closed"), -EBADMSG);
	}
	assert_int_equal(clean(), 0);
	assert_int_equal(records_list(vms, &list, &num, &err), 0);
	assert_int_equal(num, 0);
	records_free(list, num);
	if (was_root)
		assert_true(unlink(in_vms("x")) == 0 && unlink(in_vms("closed")) == 0);
}

/* The directory itself must be this user's, and no symlink. */
static void test_directories(void **state)
{
	char path[100], aside[100];

	(void)state;
	snprintf(path, sizeof(path), "%s/mayfly", dir);
	snprintf(aside, sizeof(aside), "%s/aside", dir);
	close(open_vms());
	assert_int_equal(chmod(path, 0770), 0);
	assert_int_equal(records_open(true, &err), -EPERM);
	assert_int_equal(chmod(path, 0700), 0);
	assert_int_equal(rename(path, aside), 0);
	assert_int_equal(records_open(false, &err), -ENOENT);
	assert_int_equal(symlink("aside", path), 0);
	assert_int_equal(records_open(true, &err), -ENOTDIR);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rename(aside, path), 0);
}

/* The PID of a record is signalled only while the lock is held, and by the process that began then. */
static void test_a_reused_pid(void **state)
{
	struct record_writer w = begin("pid");
	struct record r;
	int fd;

	(void)state;
	assert_int_equal(record_find("pid", &r, &err), 0);
	fd = record_open_process(&r, &err);
	assert_true(fd >= 0);
	close(fd);
	r.start_ticks++;
	assert_int_equal(record_open_process(&r, &err), -EPERM);
	r.start_ticks--;
	end(&w);
	assert_int_equal(record_open_process(&r, &err), -ESRCH);
	record_done(&r);
}

static void age(const char *name, time_t s)
{
	const struct timespec times[] = { { .tv_sec = time(NULL) - s }, { .tv_sec = time(NULL) - s } };

	assert_int_equal(utimensat(AT_FDCWD, in_vms(name), times, AT_SYMLINK_NOFOLLOW), 0);
}

static bool exists(const char *name)
{
	return access(in_vms(name), F_OK) == 0;
}

static void test_cleaning(void **state)
{
	struct record_writer w = begin("old"), living = begin("living");
	char log[] = "../logs/01234567", other[] = "../logs/76543210~", name[16];
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	(void)state;
	end(&w);
	assert_int_equal(clean(), 0);
	assert_int_equal(read_state("old"), RECORD_LOST);
	age("old", RECORD_KEEP_S - 60);
	age("living", 10 * RECORD_KEEP_S);
	assert_int_equal(clean(), 0);
	assert_true(exists("old"));
	age("old", RECORD_KEEP_S + 60);
	assert_int_equal(clean(), 0);
	assert_false(exists("old"));
	assert_true(exists("living"));
	/* Too many: those that ended last stay. */
	for (unsigned i = 0; i < RECORD_KEEP_NUM + 3; i++) {
		snprintf(name, sizeof(name), "n%u", i);
		w = begin(name);
		record_end(&w, END_COMMAND, 0);
		end(&w);
		age(name, 2000 - i);
	}
	assert_int_equal(clean(), 0);
	assert_false(exists("n2"));
	assert_true(exists("n3"));
	/* Half-made files, and logs without a record, once they are not fresh. */
	put_file(".new-1", "", 0);
	put_file("damaged", "{", 1);
	assert_true(mkdir(in_vms("../logs"), 0700) == 0 || errno == EEXIST);
	put_file(log, "", 0);
	put_file(other, "", 0);
	assert_int_equal(clean(), 0);
	assert_true(exists(".new-1") && exists("damaged") && exists(log) && exists(other));
	age(".new-1", 100);
	age("damaged", 100);
	age(log, 100);
	age(other, 100);
	assert_int_equal(clean(), 0);
	assert_false(exists(".new-1") || exists("damaged") || exists(log) || exists(other));
	/* The socket of one that was killed. */
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/s.sock", dir);
	conf.control = strdup(addr.sun_path);
	assert_int_equal(config_set(&conf, "command", "x", &err), 0);
	w = begin("killed");
	assert_int_equal(bind(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 1), 0);
	end(&w);
	assert_int_equal(clean(), 0);
	assert_int_equal(access(addr.sun_path, F_OK), 0); /* another process listens there now */
	assert_int_equal(read_state("killed"), RECORD_LOST);
	w = begin("killed");
	end(&w);
	close(fd);
	assert_int_equal(clean(), 0);
	assert_int_equal(access(addr.sun_path, F_OK), -1);
	end(&living);
}

static int empty(void **state)
{
	char command[100];

	snprintf(command, sizeof(command), "find %s/mayfly -uid %u -type f -delete 2> /dev/null", dir, geteuid());
	(void)!system(command);
	return teardown(state);
}

static int remove_all(void **state)
{
	char command[100];

	(void)state;
	snprintf(command, sizeof(command), "rm -r %s", dir);
	return (was_root && seteuid(0) < 0) || system(command) ? -1 : 0;
}

/* As root, the directory is /run's: everything runs as another user, beside files of root's. */
int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_life, setup, empty),
		cmocka_unit_test_setup_teardown(test_without_a_name, setup, empty),
		cmocka_unit_test_setup_teardown(test_a_name_is_taken_once, setup, empty),
		cmocka_unit_test_setup_teardown(test_a_race_for_a_name, setup, empty),
		cmocka_unit_test_setup_teardown(test_torn, setup, empty),
		cmocka_unit_test_setup_teardown(test_hostile_text, setup, empty),
		cmocka_unit_test_setup_teardown(test_directories, setup, empty),
		cmocka_unit_test_setup_teardown(test_a_reused_pid, setup, empty),
		cmocka_unit_test_setup_teardown(test_cleaning, setup, empty),
		cmocka_unit_test_setup_teardown(test_foreign_files, setup, empty),
	};

	if (!mkdtemp(dir))
		return 1;
	if (geteuid() == 0) {
		was_root = true;
		if (chown(dir, USER, USER) < 0 || setegid(USER) < 0 || seteuid(USER) < 0)
			return 1;
	}
	setenv("XDG_RUNTIME_DIR", dir, 1);
	return cmocka_run_group_tests(tests, NULL, remove_all);
}
