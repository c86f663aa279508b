#pragma once
// Which XDP program an interface has.

#include <linux/types.h>
#include <napi.h>

#include <string>

namespace sluice {

struct XdpProgram {
  /// 0: none is attached.
  __u32 id = 0;
  /// "native", "generic", "offload" or "multi".
  const char* mode = "";
  /// "" when the kernel does not let us look (needs CAP_SYS_ADMIN or, from 5.8, CAP_BPF with CAP_NET_ADMIN).
  std::string name;
  /// Hex; "" as above.
  std::string tag;
};

/// Asks the kernel by netlink. 0, or a negative errno; -ENODEV when there is no such interface in this namespace.
int QueryXdp(int ifindex, XdpProgram* program);

/// "program 17 (sluice_redirect, native)" for messages, or "" when none is attached or the query fails.
std::string DescribeXdp(int ifindex);

/// "veth0" for 7, or "interface 7" when there is none of that number.
std::string InterfaceName(int ifindex);

/// queryXdp(ifindex) of src/native.ts.
Napi::Value QueryXdpFunction(const Napi::CallbackInfo& info);

}  // namespace sluice
