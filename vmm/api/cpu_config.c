/*
 * PUT /cpu-config: a custom CPU template, which is read here into config_cpu.h. A bitmap has a
 * character for each bit, the highest first: 0, 1, or x for one that stays; "_" only separates.
 */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/api/state.h"
#include "vmm/base/err.h"
#include "vmm/config/config_cpu.h"

static json_t *member(json_t *json, const char *key, struct err *e)
{
	json_t *value = json_object_get(json, key);

	if (!json_is_object(json))
		err_set(e, -EINVAL, "invalid type: expected an object with `%s`", key);
	else if (!value)
		err_set(e, -EINVAL, "missing field `%s`", key);
	return value;
}

/* A number with the prefix 0x or 0b, in a string. */
static int read_number(json_t *json, const char *key, uint32_t *ret, struct err *e)
{
	json_t *value = member(json, key, e);
	const char *text = json_string_value(value);
	bool hex = text && !strncmp(text, "0x", 2);
	unsigned long number;

	if (!value)
		return e->code;
	if (!text)
		return err_set(e, -EINVAL, "invalid type of `%s`: expected a string", key);
	if (!hex && strncmp(text, "0b", 2) != 0)
		return err_set(e, -EINVAL, "No supported number system prefix found in value [%.40s]", text);
	text += 2;
	errno = 0;
	number = strtoul(text, NULL, hex ? 16 : 2);
	if (!*text || strspn(text, hex ? "0123456789abcdefABCDEF" : "01") != strlen(text) || errno ||
	    number > UINT32_MAX)
		return err_set(e, -EINVAL, "Failed to parse string [%.40s] as a number for CPU template", text - 2);
	*ret = (uint32_t)number;
	return 0;
}

static int read_bitmap(json_t *json, unsigned bits, uint64_t *ret_mask, uint64_t *ret_value, struct err *e)
{
	json_t *member_of = member(json, "bitmap", e);
	const char *text = json_string_value(member_of);
	uint64_t mask = 0, value = 0;
	unsigned num = 0;

	if (!member_of)
		return e->code;
	if (!text)
		return err_set(e, -EINVAL, "invalid type of `bitmap`: expected a string");
	for (const char *c = text + (strncmp(text, "0b", 2) ? 0 : 2); *c; c++) {
		if (*c == '_')
			continue;
		if (*c != '0' && *c != '1' && *c != 'x')
			return err_set(e, -EINVAL, "Failed to parse string [%.80s] as a bitmap - unknown character: %d",
				       text, (unsigned char)*c);
		if (++num > bits)
			return err_set(e, -EINVAL, "Failed to parse string [%.80s] as a bitmap - string is too long",
				       text);
		mask = mask << 1 | (*c != 'x');
		value = value << 1 | (*c == '1');
	}
	*ret_mask = mask;
	*ret_value = value;
	return 0;
}

static int read_register(struct config_cpu *c, const struct config_cpuid_change *of, json_t *json, struct err *e)
{
	static const char *const names[] = { "eax", "ebx", "ecx", "edx" };
	struct config_cpuid_change change = *of;
	json_t *name = member(json, "register", e);
	uint64_t mask, value;
	unsigned i = 0;

	if (!name)
		return e->code;
	while (i < 4 && (!json_is_string(name) || strcmp(json_string_value(name), names[i]) != 0))
		i++;
	if (i == 4)
		return err_set(e, -EINVAL, "Invalid CPUID register. Must be one of [eax, ebx, ecx, edx]");
	if (read_bitmap(json, 32, &mask, &value, e) < 0)
		return e->code;
	change.reg = (enum config_register)i;
	change.mask = (uint32_t)mask;
	change.value = (uint32_t)value;
	c->cpuid[c->num_cpuid++] = change;
	return 0;
}

/* Makes room for num more elements. */
static int grow(void *list, size_t have, size_t num, size_t size, struct err *e)
{
	void *next = realloc(*(void **)list, (have + num + 1) * size);

	if (!next)
		return err_set(e, -ENOMEM, "out of memory");
	*(void **)list = next;
	return 0;
}

static int read_leaf(struct config_cpu *c, json_t *json, struct err *e)
{
	struct config_cpuid_change of = { 0 };
	json_t *flags, *list, *value;
	size_t i;

	if (read_number(json, "leaf", &of.leaf, e) < 0 || read_number(json, "subleaf", &of.subleaf, e) < 0)
		return e->code;
	flags = member(json, "flags", e);
	list = flags ? member(json, "modifiers", e) : NULL;
	if (!list)
		return e->code;
	if (!json_is_integer(flags) || json_integer_value(flags) < 0 || json_integer_value(flags) > UINT32_MAX)
		return err_set(e, -EINVAL, "invalid type of `flags`: expected u32");
	if (!json_is_array(list))
		return err_set(e, -EINVAL, "invalid type of `modifiers`: expected a sequence");
	of.flags = (uint32_t)json_integer_value(flags);
	if (grow(&c->cpuid, c->num_cpuid, json_array_size(list), sizeof(*c->cpuid), e) < 0)
		return e->code;
	json_array_foreach(list, i, value)
		if (read_register(c, &of, value, e) < 0)
			return e->code;
	return 0;
}

static int read_msr(struct config_cpu *c, json_t *json, struct err *e)
{
	struct config_msr_change change;

	if (read_number(json, "addr", &change.msr, e) < 0 ||
	    read_bitmap(json, 64, &change.mask, &change.value, e) < 0 ||
	    grow(&c->msr, c->num_msrs, 1, sizeof(*c->msr), e) < 0)
		return e->code;
	c->msr[c->num_msrs++] = change;
	return 0;
}

/* "N": the host must have it. "!N": Firecracker need not, which checks some that mayfly does not use. */
static int read_capability(struct config_cpu *c, json_t *json, struct err *e)
{
	const char *text = json_string_value(json), *digits;
	unsigned long number;

	if (!text)
		return err_set(e, -EINVAL, "invalid type in `kvm_capabilities`: expected a string");
	digits = text + (*text == '!');
	errno = 0;
	number = strtoul(digits, NULL, 10);
	if (!*digits || strspn(digits, "0123456789") != strlen(digits) || errno || number > UINT32_MAX)
		return err_set(e, -EINVAL,
			       "Failed to parse string [%.40s] as a kvm capability - can not convert to numeric", text);
	if (digits != text)
		return 0;
	if (grow(&c->capability, c->num_capabilities, 1, sizeof(*c->capability), e) < 0)
		return e->code;
	c->capability[c->num_capabilities++] = (uint32_t)number;
	return 0;
}

static const struct part {
	const char *key;
	int (*read)(struct config_cpu *c, json_t *json, struct err *e);
} parts[] = {
	{ "kvm_capabilities", read_capability },
	{ "cpuid_modifiers", read_leaf },
	{ "msr_modifiers", read_msr },
};

static int read_part(struct config_cpu *c, const char *key, json_t *list, struct err *e)
{
	json_t *value;
	size_t i, p = 0;

	while (p < 3 && strcmp(parts[p].key, key) != 0)
		p++;
	if (p == 3)
		return err_set(e, -EINVAL,
			       "unknown field `%.100s`, expected one of `kvm_capabilities`, `cpuid_modifiers`, "
			       "`msr_modifiers`",
			       key);
	if (!json_is_array(list))
		return err_set(e, -EINVAL, "invalid type of `%s`: expected a sequence", key);
	json_array_foreach(list, i, value)
		if (parts[p].read(c, value, e) < 0)
			return e->code;
	return 0;
}

static int read_template(struct config_cpu *c, json_t *json, struct err *e)
{
	const char *key;
	json_t *list;

	if (json_is_array(json) && !json_array_size(json))
		return 0; /* as Firecracker: all is left out */
	if (!json_is_object(json))
		return err_set(e, -EINVAL, "invalid type: expected struct CustomCpuTemplate");
	json_object_foreach(json, key, list)
		if (read_part(c, key, list, e) < 0)
			return e->code;
	return 0;
}

void api_cpu_done(struct config_cpu *c)
{
	free(c->cpuid);
	free(c->msr);
	free(c->capability);
	*c = (struct config_cpu){ 0 };
}

void api_put_cpu(struct api *a, const char *id, void *body, struct api_answer *answer)
{
	struct config_cpu c = { 0 };
	json_t **json = body;
	struct err e;

	(void)id;
	if (read_template(&c, *json, &e) < 0) {
		api_cpu_done(&c);
		api_answer_fault(answer, "An error occurred when deserializing the json body of a request: %s.",
				 e.text);
		return;
	}
	if (a->state != API_NOT_STARTED) {
		api_cpu_done(&c);
		api_answer_fault(answer, "The requested operation is not supported after starting the microVM.");
		return;
	}
	api_cpu_done(&a->cpu);
	a->cpu = c;
	api_answer_done(answer);
}
