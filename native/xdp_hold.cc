#include "xdp_hold.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <sched.h>

namespace sluice {
namespace {

/// The loopback interface is the first of every network namespace.
constexpr int kLoopback = 1;

Fd OwnNamespace() { return Fd(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)); }

}  // namespace

bool HoldXdp(int program_fd, XdpHold* hold, SysError* error) {
  const Fd home = OwnNamespace();
  if (!home) {
    *error = {errno, "open", "/proc/thread-self/ns/net", ""};
    return false;
  }
  if (unshare(CLONE_NEWNET) != 0) {
    *error = {errno, "unshare", "a network namespace", errno == EPERM ? "It needs CAP_SYS_ADMIN: run as root." : ""};
    return false;
  }
  hold->netns = OwnNamespace();
  LIBBPF_OPTS(bpf_link_create_opts, create);
  create.flags = XDP_FLAGS_SKB_MODE;
  hold->link.reset(bpf_link_create(program_fd, kLoopback, BPF_XDP, &create));
  if (!hold->link) *error = {errno, "bpf", "attach to a loopback interface", ""};
  const bool held = hold->netns.valid() && hold->link.valid();
  if (setns(home.get(), CLONE_NEWNET) != 0) {
    *error = {errno, "setns", "/proc/thread-self/ns/net", ""};
    return false;
  }
  return held;
}

}  // namespace sluice
