#pragma once
// Takes from this process what compiling an expression does not need.

#include <stddef.h>

namespace sluice {

/// From here on the process can compute and use the descriptors 0, 1 and 2, nothing else. Two of the walls always stand:
/// memory is limited, and no descriptor can be opened (RLIMIT_NOFILE 0 leaves only those that are open), so there is
/// neither file nor socket. Behind them, where the kernel and our rights allow: user and group nobody, and a list of
/// system calls (seccomp) outside of which every call fails with EPERM. False: a wall that must stand does not.
bool Confine(size_t memory_bytes);

}  // namespace sluice
