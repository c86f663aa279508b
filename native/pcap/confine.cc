#include "confine.h"

#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#define SLUICE_SANITIZED 1  // Maps terabytes of shadow memory, and at its end looks at the process through system calls.
#else
#define SLUICE_SANITIZED 0
#endif

namespace sluice {
namespace {

/// uid and gid "nobody" and "nogroup", the kernel's overflow ids (/proc/sys/kernel/overflowuid).
constexpr int kNobody = 65534;

bool Limit(__rlimit_resource resource, rlim_t most) {
  const rlimit limit = {most, most};
  return setrlimit(resource, &limit) == 0;
}

/// What the caller left open by mistake.
void CloseOthers() {
#ifdef SYS_close_range
  if (syscall(SYS_close_range, 3U, ~0U, 0) == 0) return;
#endif
  for (int fd = 3, most = static_cast<int>(sysconf(_SC_OPEN_MAX)); fd < most; fd++) close(fd);
}

/// Best effort: without the capabilities, or in a user namespace that does not map the ids, we stay who we are.
void DropRoot() {
  if (geteuid() != 0) return;
  if (setgroups(0, nullptr) != 0 || setresgid(kNobody, kNobody, kNobody) != 0) return;
  if (setresuid(kNobody, kNobody, kNobody) != 0) return;
}

#if defined(__x86_64__)
constexpr unsigned kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr unsigned kArchitecture = AUDIT_ARCH_AARCH64;
#else
constexpr unsigned kArchitecture = 0;  // No list for this one; the limits hold all the same.
#endif

/// What malloc, write, setitimer, exit and abort need.
constexpr int kAllowed[] = {
    SYS_read,      SYS_write,      SYS_brk,        SYS_mmap,         SYS_munmap,        SYS_mremap,  SYS_mprotect,
    SYS_madvise,   SYS_futex,      SYS_exit,       SYS_exit_group,   SYS_rt_sigreturn,  SYS_setitimer,
    SYS_getrandom, SYS_getpid,     SYS_gettid,     SYS_tgkill,       SYS_rt_sigprocmask, SYS_clock_gettime,
};

/// Calls of another architecture kill; of this one, those outside of the list fail. Also the x32 calls: their numbers
/// are none of these.
void AllowOnly() {
  if (kArchitecture == 0) return;
  std::vector<sock_filter> program = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kArchitecture, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
  };
  for (const int number : kAllowed) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(number), 0, 1));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1 /* EPERM */));
  const sock_fprog list = {static_cast<unsigned short>(program.size()), program.data()};
  prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &list, 0, 0);
}

}  // namespace

bool Confine(size_t memory_bytes) {
  if (SLUICE_SANITIZED) return true;
  CloseOthers();
  DropRoot();
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return false;
  if (!Limit(RLIMIT_AS, memory_bytes) || !Limit(RLIMIT_CORE, 0) || !Limit(RLIMIT_NOFILE, 0)) return false;
  AllowOnly();
  return true;
}

}  // namespace sluice
