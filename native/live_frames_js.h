#pragma once
// The JavaScript class LiveFrames over LiveRun.

#include <napi.h>

#include <memory>

#include "addon.h"
#include "live_frames.h"

namespace sluice {

class JsLiveFrames : public NativeObject {
 public:
  static constexpr const char* kName = "LiveFrames";
  /// Starts the load.
  static std::unique_ptr<JsLiveFrames> Create(const Napi::CallbackInfo& info);

  const char* kind() const override { return kName; }
  /// Waits for the run under way, some 10 ms at most.
  void Shutdown() override { run_.reset(); }

  Napi::Value Progress(const Napi::CallbackInfo& info);
  Napi::Value Stop(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);

 private:
  std::unique_ptr<LiveRun> run_;
};

void InitLiveFrames(Napi::Env env, Napi::Object exports);

}  // namespace sluice
