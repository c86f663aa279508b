#pragma once
// BPF object files through libbpf: open → setRodata → load → programs, maps, attachXdp, testRun.

#include <bpf/libbpf.h>
#include <napi.h>

#include <memory>
#include <string>

#include "addon.h"

namespace sluice {

/// The libbpf object. Shared with the BpfMap objects made from it, which stop working when it is closed: libbpf owns the
/// descriptors of maps and programs, so nothing may use them afterwards.
struct BpfHandle {
  /// null once closed.
  struct bpf_object* object = nullptr;
  bool loaded = false;
  /// As given to the constructor.
  std::string path;

  ~BpfHandle() { Close(); }
  void Close() {
    if (object) bpf_object__close(object);
    object = nullptr;
    loaded = false;
  }
};

class BpfObject final : public NativeObject {
 public:
  static constexpr char kName[] = "BpfObject";

  explicit BpfObject(std::shared_ptr<BpfHandle> handle) : handle_(std::move(handle)) {}
  static std::unique_ptr<BpfObject> Create(const Napi::CallbackInfo& info);
  const char* kind() const override { return kName; }
  void Shutdown() override { handle_->Close(); }

  Napi::Value SetRodata(const Napi::CallbackInfo& info);
  Napi::Value Load(const Napi::CallbackInfo& info);
  Napi::Value Programs(const Napi::CallbackInfo& info);
  Napi::Value ProgramFd(const Napi::CallbackInfo& info);
  Napi::Value Map(const Napi::CallbackInfo& info);
  Napi::Value Maps(const Napi::CallbackInfo& info);
  Napi::Value AttachXdp(const Napi::CallbackInfo& info);
  Napi::Value TestRun(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);

  /// Descriptor of a loaded program, owned by libbpf; -1 after throwing: closed, not loaded, no such program.
  int FindProgram(Napi::Env env, const Napi::Value& name) const;

 private:
  /// False after throwing.
  bool CheckOpen(Napi::Env env) const;
  bool CheckLoaded(Napi::Env env) const;

  std::shared_ptr<BpfHandle> handle_;
};

}  // namespace sluice
