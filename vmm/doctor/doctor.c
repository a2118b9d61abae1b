/* The command `mayfly doctor`. doctor_checks.c has the checks, doctor_host.c the probes; see doctor.h. */
#include "vmm/doctor/doctor.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"

static const char *const level_names[] = {
	[DOCTOR_OK] = "ok",
	[DOCTOR_WARN] = "warn",
	[DOCTOR_FAIL] = "fail",
};

static int set_json(void *target, const char *text, struct err *e)
{
	bool *json = target;

	(void)text; /* the option has no value */
	(void)e;
	*json = true;
	return 0;
}

static const struct cli_option doctor_options[] = {
	{ 0, "json", NULL, "print the findings as JSON", .set = set_json, .fixed = "true" },
	/* as every command */
	{ 'h', "help", NULL, "this text", .set = NULL },
	{ 0 },
};

const struct cli_usage doctor_usage = {
	.command = "doctor",
	.synopsis = "[options]",
	.about = "Checks this host, one line for each finding: ok; warn, with which guests run, but\n"
		 "slower or with less; or fail. What is not ok comes with its fix. The status is 1\n"
		 "if something has failed, else 0.\n\n",
	.options = doctor_options,
};

static void print_line(const char *name, const struct doctor_finding *f)
{
	printf("%-4s  %-16s  %s%s%s\n", level_names[f->level], name, f->text, *f->fix ? "; fix: " : "", f->fix);
}

/* JSON cannot hold a path that is not UTF-8. */
static json_t *json_text(char *text)
{
	json_t *string = json_string(text);

	if (string)
		return string;
	for (char *p = text; *p; p++)
		*p = (unsigned char)*p < 0x80 ? *p : '?';
	return json_string(text);
}

static int add_json(json_t *list, const char *name, struct doctor_finding *f)
{
	return json_array_append_new(list, json_pack("{s:s,s:s,s:o,s:o}", "name", name, "level", level_names[f->level],
						     "text", json_text(f->text), "fix", json_text(f->fix)));
}

static int print_json(json_t *list, bool usable, struct err *e)
{
	json_t *root = json_pack("{s:s,s:b,s:O}", "version", MF_VERSION, "usable", usable, "checks", list);
	bool failed;

	if (!root)
		return err_set(e, -ENOMEM, "out of memory");
	errno = 0;
	failed = json_dumpf(root, stdout, JSON_INDENT(2)) < 0 || putchar('\n') == EOF;
	json_decref(root);
	return failed ? err_set(e, errno ? -errno : -ENOMEM, "print the findings") : 0;
}

/* Runs all checks and prints the findings; failed gets the names of failures. Returns 0 or -errno. */
static int examine(const struct doctor_host *h, bool json, char failed[DOCTOR_TEXT_MAX], struct err *e)
{
	json_t *list = json_array();
	bool told = true;
	int r = 0;

	*failed = '\0';
	for (const struct doctor_check *c = doctor_checks; c->name; c++) {
		struct doctor_finding f = { .level = DOCTOR_OK };
		size_t len = strlen(failed);

		c->run(h, &f);
		if (f.level == DOCTOR_FAIL)
			snprintf(failed + len, DOCTOR_TEXT_MAX - len, "%s%s", len ? ", " : "", c->name);
		if (json)
			told = add_json(list, c->name, &f) == 0 && told;
		else
			print_line(c->name, &f);
	}
	if (json)
		r = told ? print_json(list, !*failed, e) : err_set(e, -ENOMEM, "out of memory");
	json_decref(list);
	return r < 0 ? r : cli_check_stdout(e);
}

int doctor_command(int argc, char **argv)
{
	struct doctor_host host;
	bool json = false;
	char failed[DOCTOR_TEXT_MAX];
	struct err e;
	int r;

	doctor_host_init(&host);
	r = cli_parse(&doctor_usage, &json, argc, argv, &e);
	if (r > 0)
		return STATUS_OK;
	if (r < 0 || examine(&host, json, failed, &e) < 0)
		return report_err(&e);
	if (!*failed)
		return STATUS_OK;
	err_set(&e, -ENOTSUP, "no guest can run on this host: see %s", failed);
	report_err(&e);
	return STATUS_UNUSABLE;
}
