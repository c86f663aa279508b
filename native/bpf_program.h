#pragma once
// eBPF programs from instructions, without an object file; and maps for them.

#include <linux/types.h>
#include <napi.h>

#include <memory>
#include <string>

#include "addon.h"
#include "fd.h"

namespace sluice {

class BpfProgram final : public NativeObject {
 public:
  static constexpr char kName[] = "BpfProgram";

  BpfProgram(Fd fd, std::string name) : fd_(std::move(fd)), name_(std::move(name)) {}
  static std::unique_ptr<BpfProgram> Create(const Napi::CallbackInfo& info);
  const char* kind() const override { return kName; }
  void Shutdown() override { fd_.reset(); }

  Napi::Value Name(const Napi::CallbackInfo& info);
  Napi::Value FdNumber(const Napi::CallbackInfo& info);
  Napi::Value Info(const Napi::CallbackInfo& info);
  Napi::Value TestRun(const Napi::CallbackInfo& info);
  Napi::Value RunFrames(const Napi::CallbackInfo& info);
  Napi::Value AttachXdp(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);

  /// False after throwing.
  bool CheckOpen(Napi::Env env) const;
  int fd() const { return fd_.get(); }

 private:
  Fd fd_;
  std::string name_;
};

/// Makes the class and puts loadProgram and createMap on `exports`; the reference is the environment's.
napi_ref DefineBpfProgram(Napi::Env env, Napi::Object exports);

}  // namespace sluice
