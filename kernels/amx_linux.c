/* amx_linux.c - asking Linux for the AMX tiles: 8 KB more of registers per
 * thread, which it saves and restores only for processes that asked. Refused by
 * kernels before 5.16 and where a signal stack is too small for them. */
#if defined(__x86_64__)
#include "kernels/amx.h"

#include <sys/syscall.h>
#include <unistd.h>

#define REQ_XCOMP_PERM 0x1023 /* ARCH_REQ_XCOMP_PERM */
#define XFEATURE_TILES 18

bool hth__amx_permitted(void)
{
    return syscall(SYS_arch_prctl, REQ_XCOMP_PERM, XFEATURE_TILES) == 0;
}
#else
typedef int hth_no_amx_here; /* a file must declare something */
#endif
