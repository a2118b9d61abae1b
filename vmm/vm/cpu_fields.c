/*
 * The form of a vCPU's state in a snapshot; see cpu_fields.h.
 *
 * Writing and reading walk over the same fields by the same function (struct io has one of
 * both directions), so they cannot disagree.
 */
#include "vmm/vm/cpu_fields.h"

#include <stdbool.h>
#include <stdlib.h>

#include "vmm/base/util.h"
#include "vmm/core/state.h"

#define SREGS_PDPTRS 4

/* One direction: the other pointer is NULL. */
struct io {
	struct state_out *out;
	struct state_in *in;
};

static void io_u8(const struct io *io, __u8 *v)
{
	if (io->out)
		state_put_u8(io->out, *v);
	else
		*v = state_get_u8(io->in);
}

static void io_u16(const struct io *io, __u16 *v)
{
	if (io->out)
		state_put_u16(io->out, *v);
	else
		*v = state_get_u16(io->in);
}

static void io_u32(const struct io *io, __u32 *v)
{
	if (io->out)
		state_put_u32(io->out, *v);
	else
		*v = state_get_u32(io->in);
}

static void io_u64(const struct io *io, __u64 *v)
{
	if (io->out)
		state_put_u64(io->out, *v);
	else
		*v = state_get_u64(io->in);
}

static void io_bytes(const struct io *io, void *p, size_t len)
{
	if (io->out)
		state_put_bytes(io->out, p, len);
	else
		state_get_bytes(io->in, p, len);
}

/* A number of things that follow, at most max. */
static void io_count(const struct io *io, __u32 *n, uint32_t max, const char *why)
{
	io_u32(io, n);
	if (io->in && *n > max) {
		state_refuse(io->in, why);
		*n = 0;
	}
}

static void io_regs(const struct io *io, struct kvm_regs *r)
{
	__u64 *const all[] = { &r->rax, &r->rbx, &r->rcx, &r->rdx, &r->rsi, &r->rdi, &r->rsp, &r->rbp, &r->r8,
			       &r->r9,	&r->r10, &r->r11, &r->r12, &r->r13, &r->r14, &r->r15, &r->rip, &r->rflags };

	for (size_t i = 0; i < MF_ARRAY_SIZE(all); i++)
		io_u64(io, all[i]);
}

static void io_segment(const struct io *io, struct kvm_segment *s)
{
	__u8 *const flags[] = { &s->type, &s->present, &s->dpl, &s->db, &s->s, &s->l, &s->g, &s->avl, &s->unusable };

	io_u64(io, &s->base);
	io_u32(io, &s->limit);
	io_u16(io, &s->selector);
	for (size_t i = 0; i < MF_ARRAY_SIZE(flags); i++)
		io_u8(io, flags[i]);
}

/* With the interrupt that struct kvm_sregs has as a bitmap, and the page directory pointers of struct kvm_sregs2. */
static void io_sregs(const struct io *io, struct kvm_sregs2 *s, __u64 interrupts[KVM_NR_INTERRUPTS / 64])
{
	struct kvm_segment *const segments[] = { &s->cs, &s->ds, &s->es, &s->fs, &s->gs, &s->ss, &s->tr, &s->ldt };
	struct kvm_dtable *const tables[] = { &s->gdt, &s->idt };
	__u64 *const rest[] = { &s->cr0, &s->cr2, &s->cr3, &s->cr4, &s->cr8, &s->efer, &s->apic_base, &s->flags };

	for (size_t i = 0; i < MF_ARRAY_SIZE(segments); i++)
		io_segment(io, segments[i]);
	for (size_t i = 0; i < MF_ARRAY_SIZE(tables); i++) {
		io_u64(io, &tables[i]->base);
		io_u16(io, &tables[i]->limit);
	}
	for (size_t i = 0; i < MF_ARRAY_SIZE(rest); i++)
		io_u64(io, rest[i]);
	for (size_t i = 0; i < SREGS_PDPTRS; i++)
		io_u64(io, &s->pdptrs[i]);
	for (size_t i = 0; i < KVM_NR_INTERRUPTS / 64; i++)
		io_u64(io, &interrupts[i]);
}

static void io_debugregs(const struct io *io, struct kvm_debugregs *d)
{
	for (size_t i = 0; i < MF_ARRAY_SIZE(d->db); i++)
		io_u64(io, &d->db[i]);
	io_u64(io, &d->dr6);
	io_u64(io, &d->dr7);
}

static void io_xcrs(const struct io *io, struct kvm_xcrs *x)
{
	io_count(io, &x->nr_xcrs, KVM_MAX_XCRS, "number of XCRs");
	for (size_t i = 0; i < x->nr_xcrs; i++) {
		io_u32(io, &x->xcrs[i].xcr);
		io_u64(io, &x->xcrs[i].value);
	}
}

static void io_events(const struct io *io, struct kvm_vcpu_events *v)
{
	__u8 *const bytes[] = { &v->exception.injected,	  &v->exception.nr,	  &v->exception.has_error_code,
				&v->exception.pending,	  &v->interrupt.injected, &v->interrupt.nr,
				&v->interrupt.soft,	  &v->interrupt.shadow,	  &v->nmi.injected,
				&v->nmi.pending,	  &v->nmi.masked,	  &v->smi.smm,
				&v->smi.pending,	  &v->smi.smm_inside_nmi, &v->smi.latched_init,
				&v->exception_has_payload };

	for (size_t i = 0; i < MF_ARRAY_SIZE(bytes); i++)
		io_u8(io, bytes[i]);
	io_u32(io, &v->exception.error_code);
	io_u32(io, &v->sipi_vector);
	io_u32(io, &v->flags);
	io_u64(io, &v->exception_payload);
}

static void io_msrs(const struct io *io, struct kvm_msrs *m, uint32_t max)
{
	io_count(io, &m->nmsrs, max, "number of MSRs");
	for (size_t i = 0; i < m->nmsrs; i++) {
		io_u32(io, &m->entries[i].index);
		io_u64(io, &m->entries[i].data);
	}
}

void cpu_fields_free(struct cpu_state *s)
{
	if (!s)
		return;
	free(s->msrs);
	free(s->xsave);
	free(s);
}

struct cpu_state *cpu_fields_new(__u32 msrs_max, __u32 xsave_max)
{
	struct cpu_state *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->msrs_max = msrs_max;
	s->xsave_max = xsave_max;
	s->msrs = calloc(1, sizeof(*s->msrs) + msrs_max * sizeof(s->msrs->entries[0]));
	s->xsave = calloc(1, xsave_max);
	if (s->msrs && s->xsave)
		return s;
	cpu_fields_free(s);
	return NULL;
}

static void io_state(const struct io *io, struct cpu_state *s)
{
	io_u32(io, &s->mp.mp_state);
	io_u32(io, &s->tsc_khz);
	io_regs(io, &s->regs);
	io_sregs(io, &s->sregs, s->interrupts);
	io_xcrs(io, &s->xcrs);
	io_debugregs(io, &s->debug);
	io_events(io, &s->events);
	io_bytes(io, s->lapic.regs, sizeof(s->lapic.regs));
	io_count(io, &s->xsave_len, s->xsave_max, "length of XSAVE");
	io_bytes(io, s->xsave, s->xsave_len);
	io_msrs(io, s->msrs, s->msrs_max);
}

void cpu_fields_put(struct cpu_state *s, struct state_out *out)
{
	io_state(&(struct io){ .out = out }, s);
}

void cpu_fields_get(struct cpu_state *s, struct state_in *in)
{
	io_state(&(struct io){ .in = in }, s);
}
