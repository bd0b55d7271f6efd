// What a machine is for midflight: caches and atomics of the processor, pages and barriers of the kernel. scripts/report compiles and runs it; the
// leg `report` holds it to CPUs of QEMU's, whose registers are known. One fact a line, `name: value`.
#include <stdio.h>
#include <unistd.h>

#if defined __linux__
#include <errno.h>
#include <linux/membarrier.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#endif

static void fact(const char* name, int holds) { printf("%s: %s\n", name, holds ? "yes" : "no"); }

#if defined __linux__ && defined __aarch64__
// Linux lets programs read CTR_EL0, and answers for cores that differ (Documentation/arch/arm64/cpu-feature-registers.rst). Its fields: Arm ARM, CTR_EL0.
// Hardware capabilities: arch/arm64/include/uapi/asm/hwcap.h.
static void processor(void) {
    unsigned long ctr;
    __asm__("mrs %0, ctr_el0" : "=r"(ctr));
    printf("CTR_EL0: %#lx\n", ctr);
    printf("data cache line: %lu bytes\n", 4ul << (ctr >> 16 & 15));
    printf("instruction cache line: %lu bytes\n", 4ul << (ctr & 15));
    fact("new code needs its data cache cleaned (not IDC)", !(ctr >> 28 & 1));
    fact("new code needs its instruction cache invalidated (not DIC)", !(ctr >> 29 & 1));
    static const char* const policies[] = {"VPIPT", "AIVIVT", "VIPT", "PIPT"};
    printf("level 1 instruction cache: %s\n", policies[ctr >> 14 & 3]);
    unsigned long first = getauxval(AT_HWCAP), second = getauxval(AT_HWCAP2);
    printf("AT_HWCAP: %#lx\nAT_HWCAP2: %#lx\n", first, second);
    fact("atomics by one instruction (LSE)", first >> 8 & 1);
    fact("single-copy atomic to 16 bytes (LSE2)", first >> 25 & 1);
    fact("signed addresses (PAC)", first >> 30 & 1);
    fact("landing pads (BTI)", second >> 17 & 1);
    fact("memory tags (MTE)", second >> 18 & 1);
    fact("scalable vectors (SVE)", first >> 22 & 1);
}
#elif defined __aarch64__
static void processor(void) { puts("CTR_EL0: not seen: this system lets no program read it"); }
#else
static void processor(void) { puts("CTR_EL0: not seen: this is no AArch64 processor"); }
#endif

int main(void) {
    processor();
    printf("page size: %ld bytes\n", sysconf(_SC_PAGESIZE));
    printf("cores that may be used: %ld of %ld\n", sysconf(_SC_NPROCESSORS_ONLN), sysconf(_SC_NPROCESSORS_CONF));
#if defined __linux__
    long commands = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0);
    if (commands < 0) {
        printf("membarrier: not seen: errno %d\n", errno);
    } else {
        fact("membarrier, expedited", (commands & MEMBARRIER_CMD_PRIVATE_EXPEDITED) != 0);
        fact("membarrier, expedited, of cores", (commands & MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE) != 0);
    }
#endif
    return 0;
}
