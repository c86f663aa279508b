#pragma once
// An XDP attachment as a bpf_link: it ends with its descriptor, so a process that dies leaves nothing attached.

#include <linux/types.h>
#include <napi.h>

#include <memory>
#include <string>

#include "addon.h"
#include "fd.h"

namespace sluice {

class BpfLink final : public NativeObject {
 public:
  static constexpr char kName[] = "BpfLink";

  BpfLink(Fd fd, __u32 id, std::string where) : fd_(std::move(fd)), id_(id), where_(std::move(where)) {}
  static std::unique_ptr<BpfLink> Create(const Napi::CallbackInfo& info);
  const char* kind() const override { return kName; }
  void Shutdown() override;

  Napi::Value Id(const Napi::CallbackInfo& info);
  Napi::Value FdNumber(const Napi::CallbackInfo& info);
  Napi::Value Update(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);

 private:
  Fd fd_;
  /// The kernel's number of the link, as bpftool shows it.
  __u32 id_;
  /// Interface name, for messages.
  std::string where_;
};

/// Makes the class; the reference is the environment's.
napi_ref DefineBpfLink(Napi::Env env);

/// attachXdp(…, ifindex, mode) of src/native.ts.
Napi::Value AttachXdpLink(Napi::Env env, Napi::Value ifindex, Napi::Value mode, int program_fd);

}  // namespace sluice
