/*
 * Whether this host's KVM runs a kernel's code on the processor itself; see kvm_native.h.
 *
 * Theory of operation
 *
 * Not every /dev/kvm does. A paravirtual KVM inside of a virtual machine runs guest user space natively but emulates all
 * that runs in ring 0, some thousand times slower, and without the instructions that its emulator lacks. Linux does not
 * boot there. So a flat payload runs in ring 0 in long mode: first one of each instruction that kernels cannot do
 * without, each with its number in r15, then a loop that is also run here in user space. What ends the first part early
 * (an exception, a failed emulation) or makes the second much slower is the reason for a "no". An alarm ends all of it
 * after ten seconds. A time
 * proves little on a busy host: it is -ETIME, and every other reason is certain.
 */
#include "vmm/doctor/kvm_native.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"

/* Guest memory: one large page, identity-mapped, with these in it. */
#define MEM_BYTES (2u << 20)
#define PML4 0x1000
#define PDPT 0x2000
#define PD 0x3000
#define GDT 0x4000
#define IDT 0x5000
#define TSS 0x6000
#define STACK_TOP 0x9000
#define CODE 0x10000

#define SELECTOR_CODE 0x08
#define SELECTOR_DATA 0x10
#define SELECTOR_TSS 0x18

#define CR0_PE (1u << 0)
#define CR0_MP (1u << 1)
#define CR0_NE (1u << 5)
#define CR0_PG (1u << 31)
#define CR4_PAE (1u << 5)
#define CR4_OSFXSR (1u << 9)
#define CR4_OSXMMEXCPT (1u << 10)
#define EFER_SCE (1u << 0)
#define EFER_LME (1u << 8)
#define EFER_LMA (1u << 10)
#define PTE_RW 0x3
#define PTE_LARGE 0x83

#define PORT_EXCEPTION 0x20
#define EXCEPTIONS 32
#define STUB_BYTES 16
#define CPUID_ENTRIES 256

/* Slow is both: a busy host may look slow in one. What is emulated takes ten seconds. */
#define SLOW_RATIO 20
#define SLOW_S 0.3
#define LIMIT_S 10

/*
 * The payload. STEP gives the instructions of a step a number, in r15, and a name, in
 * step_names. The handlers are STUB_BYTES apart; that of int3 returns, the others report
 * themselves through a port.
 */
/* clang-format off */
#define STEP(name, instructions) "	STEP \"" name "\"\n	" instructions "\n"

__asm__(".text\n"
	".set step, 0\n"
	".macro STEP name\n"
	"	.pushsection .rodata.step_names, \"a\"\n"
	"	.asciz \"\\name\"\n"
	"	.popsection\n"
	"	movl $step, %r15d\n"
	"	.set step, step + 1\n"
	".endm\n"
	".pushsection .rodata.step_names, \"a\"\n"
	"step_names:\n"
	".popsection\n"

	"payload:\n"
	STEP("lgdt", "lgdt gdt_pointer(%rip)")
	STEP("lidt", "lidt idt_pointer(%rip)")
	STEP("mov to ds", "mov $0x10, %eax; mov %eax, %ds; mov %eax, %ss")
	STEP("ltr", "mov $0x18, %eax; ltr %ax")
	STEP("lretq", "pushq $0x08; lea 1f(%rip), %rax; push %rax; lretq; 1:")
	STEP("int3 and iretq", "int3")
	STEP("pushfq and popfq", "pushfq; popfq")
	STEP("clts", "clts")
	STEP("mov to cr0", "mov %cr0, %rax; mov %rax, %cr0")
	STEP("mov to cr4", "mov %cr4, %rax; mov %rax, %cr4")
	STEP("mov to cr3", "mov %cr3, %rax; mov %rax, %cr3")
	STEP("mov to dr7", "mov %dr7, %rax; mov %rax, %dr7")
	STEP("invlpg", "invlpg (%rsp)")
	STEP("wbinvd", "wbinvd")
	STEP("swapgs", "swapgs")
	STEP("rdmsr of EFER", "mov $0xc0000080, %ecx; rdmsr")
	STEP("wrmsr of EFER", "wrmsr")
	STEP("wrmsr of LSTAR", "mov $0xc0000082, %ecx; xor %eax, %eax; xor %edx, %edx; wrmsr")
	STEP("wrmsr of GS_BASE", "mov $0xc0000101, %ecx; wrmsr")
	STEP("cpuid", "xor %eax, %eax; cpuid")
	STEP("rdtsc", "rdtsc")
	STEP("verw", "mov $0x10, %eax; push %rax; verw (%rsp)")
	STEP("lock xadd", "lock xadd %rax, (%rsp)")
	STEP("lock cmpxchg16b", "and $-16, %rsp; lock cmpxchg16b (%rsp)")
	STEP("lock bts", "lock btsl $3, (%rsp)")
	STEP("popcnt", "popcnt %rax, %rax")
	STEP("rep movsq", "mov %rsp, %rsi; lea -64(%rsp), %rdi; mov $4, %ecx; rep movsq")
	STEP("fninit", "fninit")
	STEP("fxsave", "sub $1024, %rsp; fxsave64 (%rsp)")
	STEP("fxrstor", "fxrstor64 (%rsp)")
	STEP("SSE2", "movaps (%rsp), %xmm0; paddd %xmm0, %xmm1; cvtsi2sd %rax, %xmm2; mulsd %xmm2, %xmm2; movdqu %xmm1, 8(%rsp)")
	STEP("sti and cli", "sti; cli")
	STEP("fences", "mfence; lfence; sfence; pause")
	STEP("the loop", "call payload_loop")
	STEP("hlt", "hlt")

	"payload_loop:\n"
	"	mov $5000000, %ecx\n"
	"1:	lea 3(%rax,%rcx), %rax\n"
	"	xor %rcx, %rax\n"
	"	dec %ecx\n"
	"	jnz 1b\n"
	"	ret\n"

	"	.balign 16\n"
	"handlers:\n"
	"	.set vector, 0\n"
	"	.rept 32\n"
	"	.balign 16\n"
	"	.if vector == 3\n"
	"	iretq\n"
	"	.else\n"
	"	mov $vector, %al\n"
	"	out %al, $0x20\n"
	"	hlt\n"
	"	.endif\n"
	"	.set vector, vector + 1\n"
	"	.endr\n"
	"gdt_pointer:\n"
	"	.word 0x27\n"
	"	.quad 0x4000\n"
	"idt_pointer:\n"
	"	.word 0x1ff\n"
	"	.quad 0x5000\n"
	"payload_end:\n"
	".pushsection .rodata.step_names, \"a\"\n"
	"step_names_end:\n"
	".popsection\n");
/* clang-format on */

extern const char payload[], handlers[], payload_end[], step_names[], step_names_end[];
void payload_loop(void);

struct guest {
	int kvm, vm, vcpu;
	uint8_t *mem;
	struct kvm_run *run;
	size_t run_bytes;
};

static double cpu_seconds(void)
{
	struct timespec now;

	/* Cannot fail: every Linux that has KVM has this clock. */
	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void native_put(struct guest *g, uint32_t at, uint64_t value)
{
	memcpy(g->mem + at, &value, sizeof(value));
}

static void fill_memory(struct guest *g)
{
	native_put(g, PML4, PDPT | PTE_RW);
	native_put(g, PDPT, PD | PTE_RW);
	native_put(g, PD, PTE_LARGE);
	native_put(g, GDT + SELECTOR_CODE, 0x00af9b000000ffff);
	native_put(g, GDT + SELECTOR_DATA, 0x00cf93000000ffff);
	native_put(g, GDT + SELECTOR_TSS, 0x0000890000000067 | (uint64_t)TSS << 16);
	memcpy(g->mem + CODE, payload, (size_t)(payload_end - payload));
	for (uint32_t i = 0; i < EXCEPTIONS; i++) {
		uint64_t handler = CODE + (uint64_t)(handlers - payload) + i * STUB_BYTES;

		native_put(g, IDT + 16 * i,
			   (handler & 0xffff) | SELECTOR_CODE << 16 | 0x8e00ull << 32 | (handler >> 16) << 48);
	}
}

static int set_registers(struct guest *g, struct err *e)
{
	const struct kvm_regs regs = { .rip = CODE, .rsp = STACK_TOP, .rflags = 2 };
	struct kvm_segment segment = { .base = 0,
				       .limit = 0xffffffff,
				       .selector = SELECTOR_CODE,
				       .type = 11,
				       .present = 1,
				       .s = 1,
				       .l = 1,
				       .g = 1 };
	struct kvm_sregs sregs;

	if (ioctl(g->vcpu, KVM_GET_SREGS, &sregs) < 0)
		return err_sys(e, "KVM_GET_SREGS");
	sregs.cs = segment;
	segment.selector = SELECTOR_DATA;
	segment.type = 3;
	segment.l = 0;
	segment.db = 1;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = segment;
	sregs.cr0 = CR0_PE | CR0_MP | CR0_NE | CR0_PG;
	sregs.cr3 = PML4;
	sregs.cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
	sregs.efer = EFER_SCE | EFER_LME | EFER_LMA;
	if (ioctl(g->vcpu, KVM_SET_SREGS, &sregs) < 0)
		return err_sys(e, "KVM_SET_SREGS");
	if (ioctl(g->vcpu, KVM_SET_REGS, &regs) < 0)
		return err_sys(e, "KVM_SET_REGS");
	return 0;
}

static int build_vm(struct guest *g, struct err *e)
{
	struct kvm_userspace_memory_region region = { .memory_size = MEM_BYTES };
	void *mem;

	g->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (g->kvm < 0)
		return err_sys(e, "/dev/kvm");
	if (ioctl(g->kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		return err_set(e, -ENOTSUP, "/dev/kvm has another API");
	g->vm = ioctl(g->kvm, KVM_CREATE_VM, 0);
	if (g->vm < 0)
		return err_sys(e, "KVM_CREATE_VM");
	mem = mmap(NULL, MEM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		return err_sys(e, "mmap");
	g->mem = mem;
	region.userspace_addr = (uintptr_t)mem;
	if (ioctl(g->vm, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return err_sys(e, "KVM_SET_USER_MEMORY_REGION");
	return 0;
}

static int build_vcpu(struct guest *g, struct err *e)
{
	MF_FREE struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + CPUID_ENTRIES * sizeof(cpuid->entries[0]));
	void *run;
	int bytes;

	g->vcpu = ioctl(g->vm, KVM_CREATE_VCPU, 0);
	if (g->vcpu < 0)
		return err_sys(e, "KVM_CREATE_VCPU");
	if (!cpuid)
		return err_sys(e, "memory");
	cpuid->nent = CPUID_ENTRIES;
	if (ioctl(g->kvm, KVM_GET_SUPPORTED_CPUID, cpuid) < 0 || ioctl(g->vcpu, KVM_SET_CPUID2, cpuid) < 0)
		return err_sys(e, "CPUID");
	bytes = ioctl(g->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (bytes < (int)sizeof(*g->run))
		return err_set(e, -ENOTSUP, "KVM_GET_VCPU_MMAP_SIZE answered %d", bytes);
	run = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, g->vcpu, 0);
	if (run == MAP_FAILED)
		return err_sys(e, "mmap");
	g->run = run;
	g->run_bytes = (size_t)bytes;
	return 0;
}

static void guest_done(struct guest *g)
{
	if (g->run)
		munmap(g->run, g->run_bytes);
	if (g->mem)
		munmap(g->mem, MEM_BYTES);
	for (int i = 0; i < 3; i++) {
		int fd = (int[]){ g->vcpu, g->vm, g->kvm }[i];

		if (fd >= 0)
			close(fd);
	}
}

/* The name of what the guest was at. */
static const char *step_name(const struct guest *g)
{
	struct kvm_regs regs = { 0 };
	const char *name = step_names;

	/* Of a vCPU that is not running this cannot fail. */
	(void)ioctl(g->vcpu, KVM_GET_REGS, &regs);
	for (uint64_t i = 0; i < regs.r15 && name < step_names_end; i++)
		name += strlen(name) + 1;
	return name < step_names_end ? name : "nothing known";
}

/* Only interrupts KVM_RUN. */
static void native_on_alarm(int signal)
{
	(void)signal;
}

/* What KVM_RUN's end says: 0 when it is that of the payload. */
static int judge(const struct guest *g, int status, struct err *e)
{
	const struct kvm_run *exit = g->run;

	if (status < 0)
		return errno == EINTR ? err_set(e, -ETIME, "after %d s it was still at %s", LIMIT_S, step_name(g)) :
					err_sys(e, "KVM_RUN");
	if (exit->exit_reason == KVM_EXIT_HLT && !strcmp(step_name(g), "hlt"))
		return 0;
	if (exit->exit_reason == KVM_EXIT_INTERNAL_ERROR)
		return err_set(e, -ENOTSUP, "it emulates it, and cannot do %s", step_name(g));
	if (exit->exit_reason == KVM_EXIT_IO && exit->io.port == PORT_EXCEPTION)
		return err_set(e, -ENOTSUP, "exception %u at %s",
			       ((const uint8_t *)exit)[exit->io.data_offset % g->run_bytes], step_name(g));
	return err_set(e, -ENOTSUP, "exit %u at %s", exit->exit_reason, step_name(g));
}

/* Runs the payload to its end, and stores the processor time that it took. */
static int native_run(struct guest *g, double *ret_seconds, struct err *e)
{
	const struct sigaction action = { .sa_handler = native_on_alarm };
	/* It repeats, so that one which comes before KVM_RUN has begun is not the last. */
	const struct itimerval limit = { .it_value.tv_sec = LIMIT_S, .it_interval.tv_usec = 100000 }, none = { 0 };
	double start = cpu_seconds();
	struct sigaction saved;
	sigset_t alarm, mask;
	int r;

	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	if (sigaction(SIGALRM, &action, &saved) < 0 || sigprocmask(SIG_UNBLOCK, &alarm, &mask) < 0 ||
	    setitimer(ITIMER_REAL, &limit, NULL) < 0)
		return err_sys(e, "timer");
	r = judge(g, ioctl(g->vcpu, KVM_RUN, 0), e);
	*ret_seconds = cpu_seconds() - start;
	/* These undo what has just succeeded. */
	(void)setitimer(ITIMER_REAL, &none, NULL);
	(void)sigprocmask(SIG_SETMASK, &mask, NULL);
	(void)sigaction(SIGALRM, &saved, NULL);
	return r;
}

static int probe(struct guest *g, struct kvm_native *ret, struct err *e)
{
	struct kvm_native n;
	double start;

	if (build_vm(g, e) < 0 || build_vcpu(g, e) < 0)
		return e->code;
	fill_memory(g);
	if (set_registers(g, e) < 0 || native_run(g, &n.guest_s, e) < 0)
		return e->code;
	start = cpu_seconds();
	payload_loop();
	n.here_s = cpu_seconds() - start;
	if (n.guest_s > SLOW_RATIO * n.here_s && n.guest_s > SLOW_S)
		return err_set(e, -ETIME, "%d million instructions take %.0f ms there, %.0f ms in user space",
			       KVM_NATIVE_MILLIONS, n.guest_s * 1e3, n.here_s * 1e3);
	*ret = n;
	return 0;
}

int kvm_native_probe(struct kvm_native *ret, struct err *e)
{
	struct guest g = { .kvm = -1, .vm = -1, .vcpu = -1 };
	int r = probe(&g, ret, e);

	guest_done(&g);
	return r;
}
