/* config.json of a bundle: what becomes of each part, and that what is wrong is refused by the name of its field. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/oci/json_at.h"
#include "vmm/oci/spec.h"

#define NAMESPACES                                                                                                       \
	"{\"type\": \"pid\"}, {\"type\": \"ipc\"}, {\"type\": \"uts\"}, {\"type\": \"mount\"}, {\"type\": \"network\", " \
	"\"path\": \"/run/netns/x\"}"
#define PROCESS                                                                                                        \
	"\"user\": {\"uid\": 1000, \"gid\": 100, \"additionalGids\": [7, 9]}, \"args\": [\"sh\", \"-c\", \"\"], "      \
	"\"env\": [\"A=b=c\", \"E=\"], \"cwd\": \"/tmp\""

/* A bundle: parts in place of its own, or NULL. */
struct parts {
	const char *process, *linux_, *mounts, *more;
};

static int take(const struct parts *p, struct spec *s, struct config *c, struct err *e)
{
	MF_FREE char *text = NULL;
	json_t *json = NULL;

	*s = (struct spec){ .json = NULL };
	*e = (struct err){ .code = 0 };
	config_init(c);
	assert_true(asprintf(&text,
			     "{\"ociVersion\": \"1.0.2\", \"root\": {\"path\": \"/\"}, \"hostname\": \"web\", "
			     "\"process\": {%s}, \"linux\": {%s}, \"mounts\": [%s]%s}",
			     p->process ? p->process : PROCESS,
			     p->linux_ ? p->linux_ : "\"namespaces\": [" NAMESPACES "]", p->mounts ? p->mounts : "",
			     p->more ? p->more : "") > 0);
	assert_int_equal(json_at_parse(&json, text, strlen(text), "config.json", e), 0);
	return spec_take(s, c, json, "/bundle", e);
}

static void expect_refused(const struct parts *p, const char *field)
{
	struct spec s;
	struct config c;
	struct err e;
	int r = take(p, &s, &c, &e);

	if (r == 0 || strncmp(e.text, field, strlen(field)) != 0)
		fail_msg("%d '%s', and not about '%s'", r, e.text, field);
	spec_done(&s);
	config_done(&c);
}

static void test_process(void **state)
{
	struct parts p = {
		.process = PROCESS
		", \"terminal\": true, \"consoleSize\": {\"height\": 40, \"width\": 132}, \"rlimits\": [{\"type\": \"RLIMIT_NOFILE\", \"soft\": 1, "
		"\"hard\": 2}, {\"type\": \"RLIMIT_RTTIME\", \"soft\": 0, \"hard\": 0}]"
	};
	struct spec s;
	struct config c;
	struct err e;

	(void)state;
	assert_int_equal(take(&p, &s, &c, &e), 0);
	assert_int_equal(c.command.args.num, 3);
	assert_string_equal(c.command.args.text[2], "");
	assert_int_equal(c.command.env.num, 2);
	assert_string_equal(c.command.env.text[0], "A=b=c");
	assert_string_equal(c.command.workdir, "/tmp");
	assert_int_equal(s.rows, 40);
	assert_int_equal(s.columns, 132);
	assert_string_equal(c.command.user, "1000:100");
	assert_int_equal(c.command.groups.num, 2);
	assert_string_equal(c.command.groups.text[1], "9");
	/* Linux's numbers: NOFILE is 7, RTTIME the last. */
	assert_string_equal(c.command.limits.text[0], "7:1:2");
	assert_string_equal(c.command.limits.text[1], "15:0:0");
	assert_true(s.terminal);
	assert_int_equal(c.command.tty, CONFIG_TTY_ON);
	assert_string_equal(c.hostname, "web");
	assert_string_equal(s.netns, "/run/netns/x");
	assert_int_equal(c.mem, SPEC_MEM_DEFAULT);
	assert_int_equal(c.cpus, 1);
	spec_done(&s);
	config_done(&c);
}

static void test_process_is_refused(void **state)
{
	static const struct {
		const char *process, *field;
	} cases[] = {
		{ "\"user\": {\"uid\": 0, \"gid\": 0}, \"cwd\": \"/\"", "process.args: is missing" },
		{ "\"args\": [], \"user\": {\"uid\": 0, \"gid\": 0}, \"cwd\": \"/\"", "process.args:" },
		{ "\"args\": \"sh\", \"cwd\": \"/\"", "process.args: must be an array" },
		{ "\"args\": [\"sh\", 1], \"cwd\": \"/\"", "process.args[1]: must be a string" },
		{ "\"args\": [\"sh\"], \"cwd\": \"tmp\"", "process.cwd:" },
		{ "\"args\": [\"sh\"], \"cwd\": \"/\", \"env\": [\"HOME\"]", "process.env[0]:" },
		{ "\"args\": [\"sh\"], \"cwd\": \"/\"", "process.user: is missing" },
		{ "\"args\": [\"sh\"], \"cwd\": \"/\", \"user\": {\"uid\": -1, \"gid\": 0}", "process.user.uid:" },
		{ "\"args\": [\"sh\"], \"cwd\": \"/\", \"user\": {\"uid\": 0, \"gid\": 4294967295}",
		  "process.user.gid:" },
		{ "\"args\": [\"sh\"], \"cwd\": \"/\", \"user\": {\"uid\": 0, \"gid\": 0, \"additionalGids\": [-1]}",
		  "process.user.additionalGids[0]:" },
		{ PROCESS ", \"rlimits\": [{\"type\": \"NOFILE\", \"soft\": 1, \"hard\": 1}]",
		  "process.rlimits[0].type:" },
		{ PROCESS ", \"rlimits\": [{\"type\": \"RLIMIT_AS\", \"soft\": 2, \"hard\": 1}]",
		  "process.rlimits[0].soft:" },
		{ PROCESS
		  ", \"rlimits\": [{\"type\": \"RLIMIT_AS\", \"soft\": 1, \"hard\": 1}, {\"type\": \"RLIMIT_AS\", "
		  "\"soft\": 1, \"hard\": 1}]",
		  "process.rlimits[1].type:" },
		{ PROCESS ", \"terminal\": 1", "process.terminal: must be true or false" },
	};

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(cases); i++)
		expect_refused(&(struct parts){ .process = cases[i].process }, cases[i].field);
}

static void test_what_a_machine_cannot_have(void **state)
{
	static const struct {
		const char *section, *field;
	} cases[] = {
		{ "\"cgroupsPath\": \"x\"", "linux.namespaces: is missing" },
		{ "\"namespaces\": [{\"type\": \"network\"}]", "linux.namespaces: 'pid' is missing" },
		{ "\"namespaces\": [{\"type\": \"pid\"}, {\"type\": \"ipc\"}, {\"type\": \"uts\"}, {\"type\": \"mount\"}]",
		  "linux.namespaces: 'network' is missing" },
		{ "\"namespaces\": [{\"type\": \"ipc\", \"path\": \"/proc/1/ns/ipc\"}]", "linux.namespaces[0].path:" },
		{ "\"namespaces\": [" NAMESPACES "], \"devices\": [{\"path\": \"/dev/kvm\"}]", "linux.devices:" },
		{ "\"namespaces\": [" NAMESPACES "], \"uidMappings\": [{\"size\": 1}]", "linux.uidMappings:" },
		{ "\"namespaces\": [" NAMESPACES "], \"sysctl\": {\"net..x\": \"1\"}", "linux.sysctl.net..x:" },
		{ "\"namespaces\": [" NAMESPACES "], \"sysctl\": {\"a b\": \"1\"}", "linux.sysctl.a b:" },
		{ "\"namespaces\": [" NAMESPACES "], \"sysctl\": {\"a\": 1}", "linux.sysctl.a:" },
		{ "\"namespaces\": [" NAMESPACES "], \"timeOffsets\": {\"boottime\": {\"secs\": 1}}",
		  "linux.timeOffsets:" },
		{ "\"namespaces\": [" NAMESPACES "], \"intelRdt\": {\"closID\": \"x\"}", "linux.intelRdt:" },
		{ "\"namespaces\": [" NAMESPACES "], \"personality\": {\"domain\": \"LINUX32\"}",
		  "linux.personality:" },
		{ "\"namespaces\": [" NAMESPACES "], \"resources\": {\"unified\": {\"a.b\": 1}}",
		  "linux.resources.unified.a.b:" },
		{ "\"namespaces\": [" NAMESPACES "], \"resources\": {\"pids\": {\"limit\": \"x\"}}",
		  "linux.resources.pids.limit:" },
		{ "\"namespaces\": [" NAMESPACES "], \"resources\": {\"memory\": {\"limit\": 4096}}",
		  "linux.resources.memory.limit:" },
		{ "\"namespaces\": [" NAMESPACES "], \"resources\": {\"cpu\": {\"quota\": \"x\"}}",
		  "linux.resources.cpu.quota:" },
	};

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(cases); i++)
		expect_refused(&(struct parts){ .linux_ = cases[i].section }, cases[i].field);
	expect_refused(&(struct parts){ .more = ", \"hooks\": {\"startContainer\": [{\"path\": \"/bin/true\"}]}" },
		       "hooks.startContainer:");
	expect_refused(&(struct parts){ .more = ", \"annotations\": {\"mayfly.cpus\": \"99\"}" },
		       "annotations.mayfly.cpus:");
	expect_refused(&(struct parts){ .more = ", \"annotations\": {\"mayfly.result\": \"/etc/x\"}" },
		       "annotations.mayfly.result:");
	expect_refused(&(struct parts){ .more = ", \"annotations\": {\"mayfly.root\": \"x\"}" },
		       "annotations.mayfly.root:");
	expect_refused(&(struct parts){ .more = ", \"annotations\": {\"a\": 1}" }, "annotations.a:");
}

static void test_size_of_the_machine(void **state)
{
	struct parts p = { .linux_ = "\"namespaces\": [" NAMESPACES
				     "], \"resources\": {\"memory\": {\"limit\": 268435456}, "
				     "\"cpu\": {\"quota\": 150000, \"period\": 100000, \"shares\": 512}}" };
	struct spec s;
	struct config c;
	struct err e;

	(void)state;
	assert_int_equal(take(&p, &s, &c, &e), 0);
	assert_int_equal(c.mem, 268435456);
	assert_int_equal(c.cpus, 2);
	assert_int_equal(s.limits.cpu_shares, 512);
	spec_done(&s);
	config_done(&c);
	/* An annotation overrides what follows from limits; -1 is none. */
	p.more =
		", \"annotations\": {\"mayfly.cpus\": \"3\", \"mayfly.mem\": \"64M\", \"other\": \"x\", \"mayfly.net\": \"none\"}";
	p.linux_ = "\"namespaces\": [" NAMESPACES
		   "], \"resources\": {\"memory\": {\"limit\": -1}, \"cpu\": {\"quota\": -1}}";
	assert_int_equal(take(&p, &s, &c, &e), 0);
	assert_int_equal(c.mem, 64 << 20);
	assert_int_equal(c.cpus, 3);
	assert_int_equal(s.net, SPEC_NET_NONE);
	assert_int_equal(s.limits.memory, 0);
	spec_done(&s);
	config_done(&c);
}

static void test_mounts(void **state)
{
	struct parts p = {
		.mounts =
			"{\"destination\": \"/proc\", \"type\": \"proc\"}, {\"destination\": \"/dev\", \"type\": \"tmpfs\"},"
			"{\"destination\": \"/dev/shm\", \"type\": \"bind\", \"source\": \"/tmp\"},"
			"{\"destination\": \"/t\", \"type\": \"tmpfs\", \"options\": [\"nosuid\", \"size=8m\", \"mode=700\"]},"
			"{\"destination\": \"/dev/pts\", \"source\": \"/dev/pts\", \"options\": [\"bind\"]},"
			"{\"destination\": \"/e\", \"source\": \"/etc\", \"options\": [\"rbind\", \"ro\"]},"
			"{\"destination\": \"/shm\", \"source\": \"/dev/shm\", \"options\": [\"bind\"]},"
			"{\"destination\": \"/etc/passwd\", \"type\": \"bind\", \"source\": \"/etc/passwd\"}"
	};
	struct spec s;
	struct config c;
	struct err e;

	(void)state;
	assert_int_equal(take(&p, &s, &c, &e), 0);
	assert_int_equal(c.num_tmpfs, 1);
	assert_string_equal(c.tmpfs[0].path, "/t");
	assert_int_equal(c.tmpfs[0].size, 8 << 20);
	assert_int_equal(c.tmpfs[0].mode, 0700);
	assert_int_equal(c.num_live, 2);
	assert_string_equal(c.live[0].guest, "/e");
	assert_true(c.live[0].read_only);
	assert_int_equal(c.num_drives, 1);
	assert_true(!c.drive[0].mount_read_only && c.drive[0].file);
	spec_done(&s);
	config_done(&c);
	p.more = ", \"annotations\": {\"mayfly.mounts\": \"packed\"}";
	assert_int_equal(take(&p, &s, &c, &e), 0);
	assert_int_equal(c.num_live, 0);
	assert_int_equal(c.num_drives, 3);
	assert_string_equal(c.drive[0].mount, "/e");
	assert_true(c.drive[0].mount_read_only && c.drive[0].directory);
	assert_true(!c.drive[2].mount_read_only && c.drive[2].file);
	spec_done(&s);
	config_done(&c);
	expect_refused(&(struct parts){ .mounts = "{\"type\": \"bind\"}" }, "mounts[0].destination: is missing");
	expect_refused(&(struct parts){ .mounts = "{\"destination\": \"x\"}" }, "mounts[0].destination:");
	expect_refused(&(struct parts){ .mounts = "{\"destination\": \"/x\", \"type\": \"nfs\"}" }, "mounts[0].type:");
	expect_refused(&(struct parts){ .mounts = "{\"destination\": \"/x\", \"type\": \"bind\"}" },
		       "mounts[0]: source:");
	expect_refused(&(struct parts){ .mounts =
						"{\"destination\": \"/x\", \"type\": \"bind\", \"source\": \"/nowhere\"}" },
		       "mounts[0]: source:");
	expect_refused(
		&(struct parts){ .mounts = "{\"destination\": \"/x\", \"type\": \"bind\", \"source\": \"/dev/null\"}" },
		"mounts[0]: source:");
	expect_refused(&(struct parts){ .mounts =
						"{\"destination\": \"/x\", \"type\": \"bind\", \"source\": \"/proc/1\"}" },
		       "mounts[0]: source:");
	expect_refused(
		&(struct parts){
			.mounts = "{\"destination\": \"/sys/x\", \"type\": \"bind\", \"source\": \"/sys/x\"}, 1" },
		"mounts[1]:");
}

/* What is a setting of the guest's kernel, its root and its command. */
static void test_settings(void **state)
{
	struct parts p = {
		.process = "\"user\": {\"uid\": 0, \"gid\": 0, \"umask\": 63}, \"args\": [\"sh\"], \"cwd\": \"/\"",
		.linux_ = "\"namespaces\": [" NAMESPACES "], \"sysctl\": {\"net.ipv4.ping_group_range\": \"0 0\", "
			  "\"kernel.shmmax\": \"9\"}, \"resources\": {\"pids\": {\"limit\": 100}, \"cpu\": "
			  "{\"mems\": \"0\"}, \"unified\": {\"memory.high\": \"1G\"}}",
		.more = ", \"domainname\": \"lab\", \"annotations\": {\"mayfly.root\": \"live\"}"
	};
	struct spec s;
	struct config c;
	struct err e;

	(void)state;
	assert_int_equal(take(&p, &s, &c, &e), 0);
	assert_int_equal(c.command.umask_more, 64);
	assert_int_equal(c.sysctl.num, 3);
	assert_string_equal(c.sysctl.text[0], "-net.ipv4.ping_group_range=0 0");
	assert_string_equal(c.sysctl.text[1], "kernel.shmmax=9");
	assert_string_equal(c.sysctl.text[2], "kernel.domainname=lab");
	assert_int_equal(c.threads_max, 100);
	assert_string_equal(s.limits.mems, "0");
	assert_int_equal(json_object_size(s.limits.unified), 1);
	assert_null(c.rootfs.path);
	assert_int_equal(c.num_live, 1);
	assert_string_equal(c.live[0].host, "/");
	assert_string_equal(c.live[0].guest, "/");
	spec_done(&s);
	config_done(&c);
	/* -1 says that there is no limit. */
	p = (struct parts){ .linux_ = "\"namespaces\": [" NAMESPACES "], \"resources\": {\"pids\": {\"limit\": -1}}" };
	assert_int_equal(take(&p, &s, &c, &e), 0);
	assert_int_equal(c.threads_max, 0);
	assert_int_equal(c.command.umask_more, 022 + 1);
	assert_false(c.root_read_only);
	spec_done(&s);
	config_done(&c);
}

static void test_documents(void **state)
{
	static const char *const texts[] = { "", "[]", "{", "{\"a\": 1, \"a\": 2}", "{\"a\": \"\\u0000\"}", "{} x" };
	json_t *json = NULL;
	struct err e;

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(texts); i++) {
		assert_int_equal(json_at_parse(&json, texts[i], strlen(texts[i]), "f", &e), -EINVAL);
		assert_true(!strncmp(e.text, "f:", 2));
		assert_null(json);
	}
	assert_int_equal(json_at_read(&json, "/nowhere/config.json", &e), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_process),
		cmocka_unit_test(test_process_is_refused),
		cmocka_unit_test(test_what_a_machine_cannot_have),
		cmocka_unit_test(test_size_of_the_machine),
		cmocka_unit_test(test_mounts),
		cmocka_unit_test(test_settings),
		cmocka_unit_test(test_documents),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
