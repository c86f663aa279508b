#pragma once
// The JavaScript class XskSocket.

#include <napi.h>

#include <memory>

#include "addon.h"
#include "xsk_socket.h"

namespace sluice {

class JsXskSocket : public NativeObject {
 public:
  static constexpr const char* kName = "XskSocket";
  static std::unique_ptr<JsXskSocket> Create(const Napi::CallbackInfo& info);

  const char* kind() const override { return kName; }
  void Shutdown() override { socket_->Close(0); }
  ~JsXskSocket() override;

  // The one call per burst: raw callbacks whose `data` is the environment's AddonData.
  /// exchange()
  static napi_value Exchange(napi_env env, napi_callback_info info);
  /// exchangeSocket(id). To find what an object wraps takes some twenty functions of V8, cold by the time that a burst is over; a number takes none.
  static napi_value ExchangeById(napi_env env, napi_callback_info info);

  Napi::Value Resume(const Napi::CallbackInfo& info);
  Napi::Value Release(const Napi::CallbackInfo& info);
  Napi::Value Compose(const Napi::CallbackInfo& info);
  Napi::Value SetTap(const Napi::CallbackInfo& info);
  Napi::Value Statistics(const Napi::CallbackInfo& info);
  Napi::Value Rings(const Napi::CallbackInfo& info);
  Napi::Value Error(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);

 private:
  /// False after throwing, when it is closed.
  bool CheckOpen(Napi::Env env) const;
  bool DefineValues(Napi::Env env, Napi::Object self) const;
  static napi_value ExchangeOf(napi_env env, JsXskSocket* object);

  /// Null when it never got an id.
  std::shared_ptr<AddonData> addon_;
  uint32_t id_ = 0;
  std::unique_ptr<XskSocket> socket_;
};

void InitXskSocket(Napi::Env env, Napi::Object exports);

}  // namespace sluice
