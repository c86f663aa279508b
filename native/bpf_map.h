#pragma once
// Maps: those of a loaded BPF object, and those made alone.

#include <bpf/libbpf.h>
#include <napi.h>

#include <memory>
#include <string>

#include "addon.h"
#include "bpf_object.h"
#include "fd.h"

namespace sluice {

/// What a BpfMap is made from.
struct BpfMapSource {
  /// The object that owns the descriptor; null: the BpfMap takes it over, and leaves -1 here.
  std::shared_ptr<BpfHandle> handle;
  int fd;
  std::string name;
  bpf_map_type type;
  size_t key_size;
  /// As the kernel counts it, of one CPU.
  size_t value_size;
  __u32 max_entries;
};

/// Works until it, or the BpfObject that it is of, is closed, and throws from then on.
class BpfMap final : public NativeObject {
 public:
  static constexpr char kName[] = "BpfMap";

  BpfMap(BpfMapSource& source, size_t cpus);
  static std::unique_ptr<BpfMap> Create(const Napi::CallbackInfo& info);
  const char* kind() const override { return kName; }
  void Shutdown() override { own_.reset(); }

  Napi::Value Name(const Napi::CallbackInfo& info);
  Napi::Value FdNumber(const Napi::CallbackInfo& info);
  Napi::Value Type(const Napi::CallbackInfo& info);
  Napi::Value KeySize(const Napi::CallbackInfo& info);
  Napi::Value ValueSize(const Napi::CallbackInfo& info);
  Napi::Value MaxEntries(const Napi::CallbackInfo& info);
  Napi::Value Lookup(const Napi::CallbackInfo& info);
  Napi::Value Update(const Napi::CallbackInfo& info);
  Napi::Value Delete(const Napi::CallbackInfo& info);
  Napi::Value Keys(const Napi::CallbackInfo& info);
  Napi::Value UpdateBatch(const Napi::CallbackInfo& info);
  Napi::Value DeleteBatch(const Napi::CallbackInfo& info);
  Napi::Value DeleteUpTo(const Napi::CallbackInfo& info);
  Napi::Value Memory(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);

 private:
  bool open() const { return handle_ ? handle_->object != nullptr : own_.valid(); }
  /// -1 after throwing.
  int CheckedFd(Napi::Env env) const;
  /// Bytes of a Uint8Array of exactly `size`; null after throwing.
  const uint8_t* Bytes(Napi::Env env, const Napi::Value& value, const char* what, size_t size) const;
  /// Bytes of a Uint8Array of a whole number of `size`, which goes to `count`. null after throwing, and perhaps when there are none.
  const uint8_t* Many(Napi::Env env, const Napi::Value& value, const char* what, size_t size, size_t* count) const;
  void Throw(Napi::Env env, int err, const char* verb) const;
  /// Views of it now have length 0, and it is unmapped at once instead of with the next garbage collection.
  void DetachMemory(Napi::Env env);

  /// null for a map made alone, and once closed.
  std::shared_ptr<BpfHandle> handle_;
  /// Descriptor of a map made alone.
  Fd own_;
  // Copies: they stay readable after the object is closed.
  std::string name_;
  int fd_;
  bpf_map_type type_;
  size_t key_size_;
  /// One CPU's value, rounded up to 8 in per-CPU maps.
  size_t value_size_;
  /// Bytes that a look-up copies: value_size_ times the possible CPUs in per-CPU maps.
  size_t copy_size_;
  __u32 max_entries_;
  /// Where deleteUpTo goes on, a number of the kernel's, while it is amid a round.
  __u32 cursor_ = 0;
  bool sweeping_ = false;
  /// What Memory() gave out: the buffer owns the mapping, and the mapping keeps the map in the kernel.
  Napi::Reference<Napi::ArrayBuffer> memory_;
};

/// Makes the class; the reference is the environment's.
napi_ref DefineBpfMap(Napi::Env env);

}  // namespace sluice
