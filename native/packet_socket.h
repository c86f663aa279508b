#pragma once
// An AF_PACKET socket that only sends: whole Ethernet frames, out of one interface.

#include <napi.h>
#include <stdint.h>

#include <memory>
#include <string>

#include "addon.h"
#include "fd.h"

namespace sluice {

/// The JavaScript class PacketSocket.
class JsPacketSocket : public NativeObject {
 public:
  static constexpr const char* kName = "PacketSocket";
  static std::unique_ptr<JsPacketSocket> Create(const Napi::CallbackInfo& info);

  const char* kind() const override { return kName; }
  void Shutdown() override { fd_.reset(); }

  Napi::Value Send(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);

 private:
  Fd fd_;
  std::string interface_;
};

void InitPacketSocket(Napi::Env env, Napi::Object exports);

}  // namespace sluice
