/*
 * inject-once: a library that `lab` has QEMU load before itself (LD_PRELOAD), to mend a fault of its emulation of AMD-V.
 *
 * Where the VMCB of a VMRUN has an interrupt to be injected, QEMU (7.2, and by its source a later one) delivers it at once, and
 * leaves its vector in cs->exception_index, too. The next exit of the VM overwrites that. But if the emulator has to leave its
 * inner loop before, it takes the vector for an exception that is still to be delivered: the guest gets the interrupt a second
 * time, whether it has interrupts on or not. With --icount that is so at each tick of the machine's clock; a Linux guest then
 * never gets the lock of an interrupt (handle_edge_irq) that it holds itself. See README.md, "An interrupt twice".
 *
 * The store into exception_index is one instruction, which is replaced by one that does nothing. It is found by what is around
 * it, in the branch of helper_vmrun() that ends with a call of do_interrupt_x86_hardirq():
 *
 *	mov  REG, exception_index(ENV)		89 /r, a negative offset: struct CPUState lies before the registers
 *	movl $0, exception_is_int(ENV)		c7 /0
 *	movq $-1, exception_next_eip(ENV)	48 c7 /0
 *
 * Where that is not there exactly once, nothing is changed, and a line says so.
 */
#include <dlfcn.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define STORE_BYTES 6
#define PLACE_BYTES (STORE_BYTES + 10 + 11)
#define CALL_BYTES 5
#define CALL_WITHIN 48 /* bytes behind the place */

struct search {
	const uint8_t *callee;
	uint8_t *store;
	unsigned num;
};

static int32_t number(const uint8_t *at)
{
	int32_t n;

	memcpy(&n, at, sizeof(n));
	return n;
}

/* A memory operand of a register and an offset of four bytes, without an index. */
static bool is_operand(uint8_t modrm)
{
	return modrm >> 6 == 2 && (modrm & 7) != 4;
}

static bool is_place(const uint8_t *p)
{
	return p[0] == 0x89 && is_operand(p[1]) && number(p + 2) < 0 && p[6] == 0xc7 && is_operand(p[7]) &&
	       number(p + 8) > 0 && number(p + 12) == 0 && p[16] == 0x48 && p[17] == 0xc7 && is_operand(p[18]) &&
	       number(p + 19) > 0 && number(p + 23) == -1;
}

static bool has_call(const uint8_t *at, const uint8_t *end, const uint8_t *callee)
{
	for (const uint8_t *p = at; p < at + CALL_WITHIN && p + CALL_BYTES <= end; p++)
		if (*p == 0xe8 && p + CALL_BYTES + number(p + 1) == callee)
			return true;
	return false;
}

/* Of the program alone, which comes first. */
static int look(struct dl_phdr_info *info, size_t size, void *data)
{
	struct search *s = data;

	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *h = &info->dlpi_phdr[i];
		uint8_t *begin = (uint8_t *)(info->dlpi_addr + h->p_vaddr);
		const uint8_t *end = begin + h->p_memsz;

		if (h->p_type != PT_LOAD || !(h->p_flags & PF_X))
			continue;
		for (uint8_t *p = begin; p + PLACE_BYTES <= end; p++)
			if (is_place(p) && has_call(p + PLACE_BYTES, end, s->callee)) {
				s->store = p;
				s->num++;
			}
	}
	return 1;
}

static bool replace(uint8_t *store)
{
	static const uint8_t nothing[STORE_BYTES] = { 0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00 };
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	uint8_t *from = store - (uintptr_t)store % page;
	const size_t len = (size_t)(store + STORE_BYTES - from);

	if (mprotect(from, len, PROT_READ | PROT_WRITE | PROT_EXEC))
		return false;
	memcpy(store, nothing, STORE_BYTES);
	return mprotect(from, len, PROT_READ | PROT_EXEC) == 0;
}

__attribute__((constructor)) static void mend(void)
{
	struct search s = { .callee = dlsym(RTLD_DEFAULT, "do_interrupt_x86_hardirq") };

	if (!s.callee)
		return;			 /* not QEMU, but what starts it */
	(void)unsetenv("LD_PRELOAD");	 /* not for the programs that it starts; cannot fail */
	(void)dl_iterate_phdr(look, &s); /* returns what look does */
	if (s.num != 1 || !replace(s.store))
		(void)fputs("lab: this QEMU is not known to inject-once.c: with --icount, guests may hang\n", stderr);
}
