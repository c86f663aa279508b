#pragma once
// The JavaScript class Umem.

#include <napi.h>

#include <memory>

#include "addon.h"
#include "umem.h"

namespace sluice {

class JsUmem : public NativeObject {
 public:
  static constexpr const char* kName = "Umem";
  static std::unique_ptr<JsUmem> Create(const Napi::CallbackInfo& info);

  const char* kind() const override { return kName; }
  void Shutdown() override { umem_->Close(); }
  const std::shared_ptr<Umem>& umem() const { return umem_; }

  Napi::Value Counts(const Napi::CallbackInfo& info);
  Napi::Value Wait(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);

 private:
  /// Sockets hold it too: they go on working when this object was collected.
  std::shared_ptr<Umem> umem_;
  /// The ArrayBuffer, to detach it on close. Weak: the object's own property is what keeps it alive.
  Napi::Reference<Napi::ArrayBuffer> buffer_;
};

void InitUmem(Napi::Env env, Napi::Object exports);

}  // namespace sluice
