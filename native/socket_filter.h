#pragma once
// A classic BPF program in the kernel's own engine, to compare ours with: attached to one end of a pair of datagram sockets.

#include <napi.h>

#include <memory>
#include <vector>

#include "addon.h"
#include "fd.h"

namespace sluice {

/// The JavaScript class SocketFilter.
class JsSocketFilter : public NativeObject {
 public:
  static constexpr const char* kName = "SocketFilter";
  static std::unique_ptr<JsSocketFilter> Create(const Napi::CallbackInfo& info);

  const char* kind() const override { return kName; }
  void Shutdown() override;

  Napi::Value Run(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);

 private:
  Fd sender_;
  Fd receiver_;
};

void InitSocketFilter(Napi::Env env, Napi::Object exports);

}  // namespace sluice
