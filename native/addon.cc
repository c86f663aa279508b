#include "addon.h"

#include "bpf_init.h"
#include "link.h"
#include "live_frames_js.h"
#include "packet_socket.h"
#include "process.h"
#include "socket_filter.h"
#include "tap.h"
#include "umem_js.h"
#include "xsk_socket_js.h"

namespace sluice {
namespace {

using Instance = std::shared_ptr<AddonData>;

/// Runs when the environment ends, a terminated worker's too, before Node finalizes the objects: the kernel's objects
/// go now, in whatever order, and without JavaScript.
void CloseEverything(void* data) {
  for (NativeObject* object : static_cast<AddonData*>(data)->live) object->Shutdown();
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  auto* instance = new Instance(std::make_shared<AddonData>());
  AddonData* data = instance->get();
  env.SetInstanceData<Instance>(instance);
  napi_add_env_cleanup_hook(env, &CloseEverything, data);
  InitUmem(env, exports);
  InitXskSocket(env, exports);
  InitTap(env, exports);
  InitPacketSocket(env, exports);
  InitSocketFilter(env, exports);
  InitLink(env, exports);
  InitProcess(env, exports);
  InitLiveFrames(env, exports);
  return InitBpf(env, exports);
}

}  // namespace

const std::shared_ptr<AddonData>& AddonData::Of(napi_env env) { return *Napi::Env(env).GetInstanceData<Instance>(); }

NODE_API_MODULE(sluice, Init)

}  // namespace sluice
