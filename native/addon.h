#pragma once
// What one JavaScript environment (main thread or worker) owns of this addon. There are no mutable statics: several
// environments use the addon at once, each with its own AddonData.

#include <napi.h>

#include <memory>
#include <unordered_set>
#include <vector>

namespace sluice {

class JsXskSocket;

/// Base of everything that a JavaScript object wraps.
class NativeObject {
 public:
  virtual ~NativeObject() = default;
  /// Name of the class, kName: no two classes of the addon have the same.
  virtual const char* kind() const = 0;
  /// Releases what the kernel holds, as close() does, without touching JavaScript. Runs when the environment ends.
  virtual void Shutdown() = 0;
};

struct AddonData {
  /// Every wrapped object that was not finalized. What napi_unwrap gives is ours only if it is in here.
  std::unordered_set<NativeObject*> live;
  /// The one that was asked for last, or null: exchange() asks for the same one again and again.
  NativeObject* last = nullptr;
  bool IsLive(NativeObject* object) {
    if (object != last && live.count(object) == 0) return false;
    last = object;
    return true;
  }
  /// By XskSocket.id, which no two sockets of an environment have one after the other: null once it was finalized.
  std::vector<JsXskSocket*> sockets;
  /// Per-environment state of the BPF part; only native/bpf_* know its type.
  std::shared_ptr<void> bpf;

  /// The environment's data; set before anything else is registered, never null afterwards.
  static const std::shared_ptr<AddonData>& Of(napi_env env);
};

}  // namespace sluice
