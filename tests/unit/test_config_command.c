/* The command in the configuration: setters, its text for the guest's init, and what needs it. */
#include "tests/unit/config_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loader/init/proto.h"
#include "vmm/base/util.h"
#include "vmm/guest/init_text.h"

static int setup_kernel(void **state)
{
	/* Another kernel than Linux, for which alone a root is asked for. */
	return setup(state) || config_set(&conf, "kernel", "/proc/self/exe", &err);
}

static void accepts(const char *key, const char *text)
{
	if (config_set(&conf, key, text, &err) != 0)
		fail_msg("'%s': %s", text, err.text);
}

static void refuses(const char *key, const char *text, const char *message)
{
	assert_true(config_set(&conf, key, text, &err) < 0);
	assert_string_equal(err.text, message);
}

static void expect_text(const char *tty, const char *want, size_t want_len)
{
	size_t len = 0;
	char *text = init_text_command(&conf.command, tty, &len);

	assert_non_null(text);
	assert_int_equal(len, want_len);
	assert_memory_equal(text, want, len);
	free(text);
}

#define EXPECT_TEXT(tty, want) expect_text(tty, want, sizeof(want) - 1)

static void test_text(void **state)
{
	(void)state;
	accepts("command", "echo");
	EXPECT_TEXT(NULL, "aecho\0");
	accepts("command", "");
	accepts("command", "a b\n");
	accepts("env", "A=b=c");
	accepts("env", "B=");
	accepts("workdir", "/tmp");
	accepts("user", "me:us");
	unsetenv("TERM");
	EXPECT_TEXT("24x80", "aecho\0a\0aa b\n\0eA=b=c\0eB=\0w/tmp\0ume:us\0t24x80\0");
	setenv("TERM", "vt220", 1);
	EXPECT_TEXT("24x80", "aecho\0a\0aa b\n\0eTERM=vt220\0eA=b=c\0eB=\0w/tmp\0ume:us\0t24x80\0");
	EXPECT_TEXT(NULL, "aecho\0a\0aa b\n\0eA=b=c\0eB=\0w/tmp\0ume:us\0");
}

static void test_env_of_ours(void **state)
{
	(void)state;
	setenv("MAYFLY_TEST_SET", "1 2", 1);
	unsetenv("MAYFLY_TEST_UNSET");
	accepts("command", "x");
	accepts("env", "MAYFLY_TEST_SET");
	accepts("env", "MAYFLY_TEST_UNSET");
	EXPECT_TEXT(NULL, "ax\0eMAYFLY_TEST_SET=1 2\0");
}

static void test_refused(void **state)
{
	static const char env[] = "must be NAME=VALUE, or NAME, which takes the value from mayfly's environment";
	static const char user[] = "must be USER or USER:GROUP, names or numbers, 127 bytes at most";
	static const char time[] = "must be a time such as 30s, 500ms, 5m or 1h30m, 24 days at most, or none";

	(void)state;
	refuses("command", "", "the command must not be empty");
	refuses("env", "", env);
	refuses("env", "=x", env);
	refuses("workdir", "tmp", "must be a path in the guest that begins with '/'");
	refuses("user", "", user);
	refuses("user", ":g", user);
	refuses("user", "u:", user);
	refuses("user", "u:g:h", user);
	refuses("timeout", "-1", time);
	refuses("timeout", "", time);
	refuses("boot_timeout", "never", time);
	refuses("timeout", "25d", time);
	refuses("timeout", "1000h", time);
	refuses("name", "a/b", "must be 1 to 63 letters, digits, '_', '-' or '.', and begin with none of the last two");
	refuses("name", ".", "must be 1 to 63 letters, digits, '_', '-' or '.', and begin with none of the last two");
	refuses("name", ".a", "must be 1 to 63 letters, digits, '_', '-' or '.', and begin with none of the last two");
	refuses("name", "-a", "must be 1 to 63 letters, digits, '_', '-' or '.', and begin with none of the last two");
	refuses("name", "", "must be 1 to 63 letters, digits, '_', '-' or '.', and begin with none of the last two");
	accepts("name", "web.1-a_b..c");
	refuses("tty", "yes", "must be true or false");
}

/* No limit is what the user says, and for a boot it is not what nobody has said. */
static void test_time_limits(void **state)
{
	static const char *const none[] = { "0", "0s", "none" };

	for (size_t i = 0; i < MF_ARRAY_SIZE(none); i++) {
		teardown(state);
		setup_kernel(state);
		accepts("timeout", "5s");
		accepts("timeout", none[i]);
		accepts("boot_timeout", none[i]);
		accepts("command", "x");
		assert_int_equal(config_check(&conf, &err), 0);
		assert_int_equal(conf.timeout_ms, 0);
		assert_true(conf.boot_timeout_ms == CONFIG_NO_LIMIT);
	}
	teardown(state);
	setup_kernel(state);
	assert_int_equal(config_check(&conf, &err), 0);
	assert_int_equal(conf.boot_timeout_ms, 0); /* no command */
	accepts("command", "x");
	unsetenv("MAYFLY_BOOT_TIMEOUT");
	assert_int_equal(config_check(&conf, &err), 0);
	assert_int_equal(conf.boot_timeout_ms, 30000);
	accepts("boot_timeout", "2m");
	setenv("MAYFLY_BOOT_TIMEOUT", "3m", 1);
	assert_int_equal(config_check(&conf, &err), 0);
	assert_int_equal(conf.boot_timeout_ms, 120000);
	conf.boot_timeout_ms = 0;
	assert_int_equal(config_check(&conf, &err), 0);
	assert_int_equal(conf.boot_timeout_ms, 180000);
	conf.boot_timeout_ms = 0;
	setenv("MAYFLY_BOOT_TIMEOUT", "soon", 1);
	assert_int_equal(config_check(&conf, &err), -EINVAL);
	assert_non_null(strstr(err.text, "MAYFLY_BOOT_TIMEOUT"));
	unsetenv("MAYFLY_BOOT_TIMEOUT");
}

static void test_too_much(void **state)
{
	static char long_text[1024 * 1024];
	int r = 0;

	(void)state;
	memset(long_text, 'x', sizeof(long_text) - 1);
	for (unsigned i = 0; r == 0 && i < 8; i++)
		r = config_set(&conf, "command", long_text, &err);
	assert_int_equal(r, -E2BIG);
	assert_string_equal(err.text, "command and environment together exceed 2032 KiB");
	assert_true(conf.command.text_len < INIT_COMMAND_MAX);
}

/* A command that replaces a file's has as much room as if that had never been there. */
static void test_as_much_as_before(void **state)
{
	static char json[2100000], word[2000000], env[60000] = "A=";
	int len;

	(void)state;
	memset(word, 'x', sizeof(word) - 1);
	len = snprintf(json, sizeof(json), "{\"command\": [\"%s\"]}", word);
	assert_int_equal(config_read_text(&conf, json, (size_t)len, "t", &err), 0);
	accepts("command", word);
	memset(env + 2, 'y', sizeof(env) - 3);
	accepts("env", env);
	assert_int_equal(config_set(&conf, "env", env, &err), -E2BIG);
}

/* As a user, or as root of a user namespace, who cannot write to /run. Returns what differs, or 0. */
static int paths_of_a_user(const char *dir)
{
	char own[64], long_dir[160], want[128], *path = NULL;

	snprintf(own, sizeof(own), "/tmp/mayfly-%u/x.sock", geteuid());
	unsetenv("XDG_RUNTIME_DIR");
	if (config_control_path(&path, "x", &err) < 0 || strcmp(path, own) != 0)
		return 1;
	snprintf(long_dir, sizeof(long_dir), "%s/%0100d", dir, 0);
	if (mkdir(long_dir, 0700) < 0 || setenv("XDG_RUNTIME_DIR", long_dir, 1) < 0 ||
	    config_control_path(&path, "x", &err) < 0 || strcmp(path, own) != 0 || rmdir(long_dir) < 0)
		return 2;
	setenv("XDG_RUNTIME_DIR", "/nowhere", 1);
	if (config_control_path(&path, "x", &err) < 0 || strcmp(path, own) != 0)
		return 3;
	setenv("XDG_RUNTIME_DIR", dir, 1);
	snprintf(want, sizeof(want), "%s/mayfly/x.sock", dir);
	if (config_control_path(&path, "x", &err) < 0 || strcmp(path, want) != 0)
		return 4;
	*strrchr(own, '/') = '\0';
	*strrchr(want, '/') = '\0';
	return config_is_control_dir(own) && config_is_control_dir(want) && !config_is_control_dir(dir) ? 0 : 5;
}

static void test_control_paths(void **state)
{
	char dir[] = "/tmp/mayfly-test-config-XXXXXX", *path = NULL;
	int status;
	pid_t pid;

	(void)state;
	assert_non_null(mkdtemp(dir));
	if (geteuid() == 0) {
		assert_int_equal(chown(dir, 54321, 54321), 0);
		assert_int_equal(config_control_path(&path, "x", &err), 0);
		assert_true(access("/run", W_OK) < 0 || strcmp(path, "/run/mayfly/x.sock") == 0);
		free(path);
	}
	pid = fork();
	if (pid == 0)
		_exit(geteuid() == 0 && setresuid(54321, 54321, 54321) < 0 ? 9 : paths_of_a_user(dir));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(rmdir(dir), 0);
}

static void test_what_needs_a_command(void **state)
{
	static const char *const keys[][2] = { { "env", "A=b" },  { "workdir", "/" }, { "user", "me" },
					       { "tty", "true" }, { "tty", "false" }, { "console", "true" } };

	assert_int_equal(config_check(&conf, &err), 0);
	assert_false(config_has_vsock(&conf));
	for (size_t i = 0; i < MF_ARRAY_SIZE(keys); i++) {
		accepts(keys[i][0], keys[i][1]);
		if (config_check(&conf, &err) != -EINVAL)
			fail_msg("%s was accepted", keys[i][0]);
		assert_non_null(strstr(err.text, keys[i][0]));
		teardown(state);
		assert_int_equal(setup_kernel(state), 0);
	}
	accepts("command", "true");
	assert_int_equal(config_check(&conf, &err), 0);
	assert_true(config_has_vsock(&conf));
	assert_int_equal(config_num_devices(&conf), 1);
}

static void test_user_network_has_addresses(void **state)
{
	(void)state;
	accepts("nets", "user");
	assert_int_equal(config_check(&conf, &err), 0);
	assert_null(conf.net[0].dns); /* the guest asks by DHCP, and gets the host's */
	assert_non_null(conf.net[0].ip);
	accepts("command", "true");
	assert_int_equal(config_check(&conf, &err), 0);
	assert_string_equal(conf.net[0].ip, "10.0.2.15/24");
	assert_string_equal(conf.net[0].gateway, "10.0.2.2");
	assert_string_equal(conf.net[0].dns, "10.0.2.3");
	assert_int_equal(conf.net[0].mtu, 65520); /* as --dry-run shows it */
}

static unsigned terminals; /* by number of stream */

int isatty(int fd)
{
	return terminals >> fd & 1;
}

static void test_terminal(void **state)
{
	struct config_command cmd = { .tty = CONFIG_TTY_ON };

	(void)state;
	config_complete_command(&cmd);
	assert_false(cmd.terminal); /* there is no command */
	cmd.args.num = 1;
	config_complete_command(&cmd);
	assert_true(cmd.terminal);
	cmd.tty = CONFIG_TTY_AUTO;
	for (terminals = 0; terminals < 8; terminals++) {
		config_complete_command(&cmd);
		assert_int_equal(cmd.terminal, terminals == 3 || terminals == 7); /* stdin and stdout */
	}
	cmd.tty = CONFIG_TTY_OFF;
	config_complete_command(&cmd);
	assert_false(cmd.terminal);
	terminals = 3;
	accepts("command", "sh");
	assert_int_equal(config_check(&conf, &err), 0);
	assert_true(conf.command.terminal);
	terminals = 0;
}

static void test_addresses(void **state)
{
	static const char ip[] = "'ip=10.0.0.2': must be an IPv4 address with its prefix, such as 10.0.0.2/24";
	static const char *const prefixes[] = { "tap=t,ip=10.0.0.2/1",	       "tap=t,ip=10.0.0.2/32",
						"tap=t,ip=10.0.0.2/0",	       "tap=t,ip=10.0.0.2/33",
						"tap=t,ip=10.0.0.2/",	       "tap=t,ip=10.0.0.2/1x",
						"tap=t,ip=10.0.0.2/4294967304" };

	(void)state;
	refuses("nets", "tap=t,ip=10.0.0.2", ip);
	refuses("nets", "tap=t,ip=10.0.0.2/24,gw=x", "'gw=x': must be an IPv4 address, such as 10.0.0.1");
	refuses("nets", "tap=t,gw=10.0.0.1", "gw needs an ip, and gw6 an ip6");
	for (size_t i = 0; i < MF_ARRAY_SIZE(prefixes); i++)
		assert_int_equal(config_set(&conf, "nets", prefixes[i], &err), i < 2 ? 0 : -EINVAL);
	accepts("nets", "tap=t,ip=10.0.0.2/24,gw=10.0.0.1,dns=10.0.0.1");
	assert_int_equal(config_check(&conf, &err), -EINVAL);
	assert_non_null(strstr(err.text, "net 'net0': its ip, ip6 and dns need a command"));
	accepts("command", "true");
	assert_int_equal(config_check(&conf, &err), 0);
}

/* An argument of the command line replaces the command of a file. */
static void test_file_and_command_line(void **state)
{
	static const char json[] =
		"{\"command\": [\"from\", \"file\"], \"env\": [\"A=1\"], \"timeout\": 5, \"tty\": false}";

	(void)state;
	assert_int_equal(config_read_text(&conf, json, sizeof(json) - 1, "t", &err), 0);
	EXPECT_TEXT(NULL, "afrom\0afile\0eA=1\0");
	assert_int_equal(conf.timeout_ms, 5000);
	assert_int_equal(conf.command.tty, CONFIG_TTY_OFF);
	accepts("command", "new");
	accepts("command", "one");
	EXPECT_TEXT(NULL, "anew\0aone\0eA=1\0");
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup_kernel, teardown)

/* The name that it has in HOSTDIR is the last of the guest's path, and has to be one. */
static void test_tmpfs(void **state)
{
	static const char *const bad[] = { "",		"/",	       "x",	   "/x:",	"/x:size=",
					   "/x:size=0", "/x:size=1M,", "/x:mode=", "/x:mode=8", "/x:mode=17777",
					   "/x:exec",	"x:size=1M" };

	(void)state;
	accepts("tmpfs", "/x");
	accepts("tmpfs", "/a b/c:size=3M,mode=700");
	assert_int_equal(conf.num_tmpfs, 2);
	assert_string_equal(conf.tmpfs[0].path, "/x");
	assert_int_equal(conf.tmpfs[0].size, 0);
	assert_int_equal(conf.tmpfs[0].mode, 01777);
	assert_string_equal(conf.tmpfs[1].path, "/a b/c");
	assert_int_equal(conf.tmpfs[1].size, 3 << 20);
	assert_int_equal(conf.tmpfs[1].mode, 0700);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (config_set(&conf, "tmpfs", bad[i], &err) != -EINVAL)
			fail_msg("'%s' is accepted", bad[i]);
	for (unsigned i = 2; i < CONFIG_TMPFS_MAX; i++)
		accepts("tmpfs", "/x");
	assert_int_equal(config_set(&conf, "tmpfs", "/x", &err), -EINVAL);
	assert_int_equal(conf.num_tmpfs, CONFIG_TMPFS_MAX);
}

static void test_artifacts(void **state)
{
	static const struct {
		const char *spec, *name;
	} good[] = { { "/a=b", "a" }, { "/a/b=b", "b" }, { "/a/b//=b", "b//" }, { "/=b", "." },
		     { "//=b", "." }, { "/a/.=b", "." }, { "/a/..b=b", "..b" } };
	static const char *const bad[] = { "a=b", "/a", "/a=", "=b", "/a/..=b", "/../=b", "/..=b" };

	(void)state;
	for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		accepts("artifacts", good[i].spec);
		assert_string_equal(config_artifact_name(&conf.artifact[i]), good[i].name);
	}
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (config_set(&conf, "artifacts", bad[i], &err) != -EINVAL)
			fail_msg("'%s' was accepted", bad[i]);
	accepts("artifact_max", "20G");
	assert_int_equal(conf.artifact_max, 20ULL << 30);
	assert_true(config_set(&conf, "artifact_max", "0", &err) < 0);
}

/* A directory that is not copied is no drive. */
static void test_live_directories(void **state)
{
	char spec[16];

	(void)state;
	accepts("volumes", "/etc:/mnt");
	accepts("volumes", "/dev:/mnt/dev:ro");
	accepts("volumes", "/tmp:/x:rw");
	assert_int_equal(conf.num_drives, 0);
	assert_int_equal(conf.num_live, 3);
	assert_string_equal(conf.live[0].host, "/etc");
	assert_string_equal(conf.live[0].guest, "/mnt");
	assert_false(conf.live[0].read_only);
	assert_true(conf.live[1].read_only);
	assert_false(conf.live[2].read_only);
	refuses("volumes", "/etc:/x:rx", "':rx' is none of ':ro', ':copy' and ':rw'");
	for (unsigned i = 3; i < CONFIG_LIVE_MAX; i++) {
		snprintf(spec, sizeof(spec), "/etc:/x%u", i);
		accepts("volumes", spec);
	}
	refuses("volumes", "/etc:/y", "there can be at most 16 directories without ':copy'");
	accepts("kernel", "k");
	assert_int_equal(config_check(&conf, &err), -EINVAL);
	assert_string_equal(err.text,
			    "volumes, tmpfs, secrets, scratch and disk need a command: mayfly run ... -- COMMAND");
	accepts("command", "true");
	accepts("snapshot", "/s");
	assert_int_equal(config_check(&conf, &err), -EINVAL);
	assert_string_equal(err.text,
			    "snapshot and live directories (-v DIR:/GUEST without ':copy') do not go together");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_text),
		T(test_env_of_ours),
		T(test_refused),
		T(test_time_limits),
		T(test_too_much),
		T(test_what_needs_a_command),
		T(test_user_network_has_addresses),
		T(test_terminal),
		T(test_addresses),
		T(test_file_and_command_line),
		T(test_artifacts),
		T(test_control_paths),
		T(test_tmpfs),
		T(test_live_directories),
		T(test_as_much_as_before),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
