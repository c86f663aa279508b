#pragma once
// Keeps an XDP program in the kernel's dispatcher.
//
// The dispatcher (kernel/bpf/dispatcher.c) is code that calls the XDP programs in use directly. A test run of more than one
// frame puts its program in and takes it out again, and each of the two waits for RCU: some 30 ms a run, whatever it sends.
// A program that is in already is only counted. It is as long as it is attached anywhere: here to the loopback interface of
// a network namespace that has nothing else, so that no packet ever meets it.

#include "fd.h"
#include "sys_error.h"

namespace sluice {

struct XdpHold {
  Fd netns;
  Fd link;
};

/// Makes the namespace (CAP_SYS_ADMIN) and attaches. The calling thread is in another namespace for a moment, and back in
/// its own afterwards. It all goes with the descriptors.
bool HoldXdp(int program_fd, XdpHold* hold, SysError* error);

}  // namespace sluice
