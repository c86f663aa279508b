#include "bpf_map.h"

#include <bpf/bpf.h>
#include <errno.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "bpf_init.h"
#include "bpf_log.h"
#include "errno_error.h"
#include "js_args.h"
#include "js_class.h"

namespace sluice {
namespace {

bool IsPerCpu(bpf_map_type type) {
  return type == BPF_MAP_TYPE_PERCPU_ARRAY || type == BPF_MAP_TYPE_PERCPU_HASH || type == BPF_MAP_TYPE_LRU_PERCPU_HASH ||
         type == BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE;
}

Napi::Uint8Array CopyOf(Napi::Env env, const std::vector<uint8_t>& bytes) {
  Napi::Uint8Array array = Napi::Uint8Array::New(env, bytes.size());
  std::copy(bytes.begin(), bytes.end(), array.Data());
  return array;
}

}  // namespace

BpfMap::BpfMap(BpfMapSource& source, size_t cpus)
    : handle_(source.handle),
      name_(source.name),
      fd_(source.fd),
      type_(source.type),
      key_size_(source.key_size),
      max_entries_(source.max_entries) {
  if (!handle_) own_.reset(std::exchange(source.fd, -1));
  const size_t size = source.value_size;
  value_size_ = IsPerCpu(type_) ? (size + 7) / 8 * 8 : size;
  copy_size_ = IsPerCpu(type_) ? value_size_ * cpus : value_size_;
}

std::unique_ptr<BpfMap> BpfMap::Create(const Napi::CallbackInfo& info) {
  auto* source = static_cast<BpfMapSource*>(ConstructionArgument(info, kName));
  if (!source) return nullptr;
  BpfLog quiet;
  const int cpus = libbpf_num_possible_cpus();
  if (cpus <= 0) {
    ThrowErrno(info.Env(), cpus, "read", "/sys/devices/system/cpu/possible", "Mount sysfs: mount -t sysfs sysfs /sys.");
    return nullptr;
  }
  return std::make_unique<BpfMap>(*source, static_cast<size_t>(cpus));
}

int BpfMap::CheckedFd(Napi::Env env) const {
  if (open()) return fd_;
  ThrowClosed(env, handle_ ? "BPF object of this map" : "BPF map");
  return -1;
}

const uint8_t* BpfMap::Bytes(Napi::Env env, const Napi::Value& value, const char* what, size_t size) const {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    FailType(env, "map " + name_ + ": the " + what + " must be a Uint8Array, got " + Show(value));
    return nullptr;
  }
  Napi::Uint8Array bytes = value.As<Napi::Uint8Array>();
  if (bytes.ByteLength() != size) {
    FailRange(env, "map " + name_ + ": the " + what + " must have " + std::to_string(size) + " bytes, not " +
                       std::to_string(bytes.ByteLength()));
    return nullptr;
  }
  return bytes.Data();
}

void BpfMap::Throw(Napi::Env env, int err, const char* verb) const {
  std::string remedy;
  if (err == E2BIG || err == ENOSPC) {
    remedy = "Map " + name_ + " is full (" + std::to_string(max_entries_) +
             " entries) or the index is beyond its end: remove entries, or load the object with a larger map.";
  } else if (err == EEXIST) {
    remedy = "The key is in map " + name_ + " already: update it with flags 0.";
  } else if (err == ENOENT) {
    remedy = "The key is not in map " + name_ + ": insert it with flags 0 or 1.";
  } else if (err == EINVAL) {
    remedy = "Map " + name_ + " does not take this key or this operation.";
  } else if (err == EOPNOTSUPP || err == EBADF) {
    remedy = "Map " + name_ + " takes descriptors of the kind that it is for (AF_XDP sockets in an XSKMAP), and shows none.";
  }
  ThrowErrno(env, err, "bpf", std::string(verb) + " map " + name_, remedy);
}

Napi::Value BpfMap::Lookup(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const int fd = CheckedFd(env);
  if (fd < 0) return env.Undefined();
  const uint8_t* key = Bytes(env, info[0], "key", key_size_);
  if (!key) return env.Undefined();
  std::vector<uint8_t> value(copy_size_);
  if (bpf_map_lookup_elem(fd, key, value.data()) != 0) {
    const int err = errno;
    if (err == ENOENT) return env.Null();
    Throw(env, err, "look up in");
    return env.Undefined();
  }
  return CopyOf(env, value);
}

Napi::Value BpfMap::Update(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const int fd = CheckedFd(env);
  if (fd < 0) return env.Undefined();
  const uint8_t* key = Bytes(env, info[0], "key", key_size_);
  if (!key) return env.Undefined();
  const uint8_t* value = Bytes(env, info[1], "value", copy_size_);
  if (!value) return env.Undefined();
  __u64 flags = 0;
  if (!info[2].IsUndefined() && !ArgInteger(env, info[2], "flags", 0, UINT32_MAX, &flags)) return env.Undefined();
  if (bpf_map_update_elem(fd, key, value, flags) != 0) Throw(env, errno, "update");
  return env.Undefined();
}

Napi::Value BpfMap::Delete(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const int fd = CheckedFd(env);
  if (fd < 0) return env.Undefined();
  const uint8_t* key = Bytes(env, info[0], "key", key_size_);
  if (!key) return env.Undefined();
  if (bpf_map_delete_elem(fd, key) == 0) return Napi::Boolean::New(env, true);
  const int err = errno;
  if (err == ENOENT) return Napi::Boolean::New(env, false);
  Throw(env, err, "delete from");
  return env.Undefined();
}

Napi::Value BpfMap::Keys(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const int fd = CheckedFd(env);
  if (fd < 0) return env.Undefined();
  Napi::Array keys = Napi::Array::New(env);
  std::vector<uint8_t> key(key_size_), next(key_size_);
  // The kernel starts over when the key in hand is deleted meanwhile: the bound keeps that from going on for ever.
  for (__u32 i = 0; i < max_entries_; i++) {
    if (bpf_map_get_next_key(fd, i == 0 ? nullptr : key.data(), next.data()) != 0) {
      const int err = errno;
      if (err == ENOENT) break;
      Throw(env, err, "list");
      return env.Undefined();
    }
    key.swap(next);
    Napi::HandleScope scope(env);
    keys.Set(i, CopyOf(env, key));
  }
  return keys;
}

Napi::Value BpfMap::DeleteUpTo(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const int fd = CheckedFd(env);
  if (fd < 0) return env.Undefined();
  size_t offset = 0;
  uint64_t most = 0;
  __u32 count = 0;
  if (!ArgInteger(env, info[0], "offset", 0, INT32_MAX, &offset) || !ArgInteger(env, info[1], "most", 0, INT64_C(1) << 53, &most) ||
      !ArgInteger(env, info[2], "count", 1, 1 << 20, &count)) {
    return env.Undefined();
  }
  if (offset + sizeof(uint64_t) > value_size_) {
    FailRange(env, "map " + name_ + ": a value has no 8 bytes at " + std::to_string(offset));
    return env.Undefined();
  }
  // As the kernel copies values, whatever their size.
  const size_t stride = (copy_size_ + 7) / 8 * 8;
  std::vector<uint8_t> keys(key_size_ * count), values(stride * count);
  __u32 next = 0;
  const bool failed = bpf_map_lookup_batch(fd, sweeping_ ? &cursor_ : nullptr, &next, keys.data(), values.data(), &count, nullptr) != 0;
  const int err = errno;
  if (failed && err != ENOENT) {
    sweeping_ = false;
    Throw(env, err, "sweep");
    return env.Undefined();
  }
  double deleted = 0;
  for (__u32 i = 0; i < count; i++) {
    uint64_t value = 0;
    std::copy_n(values.data() + stride * i + offset, sizeof(value), reinterpret_cast<uint8_t*>(&value));
    if (value <= most && bpf_map_delete_elem(fd, keys.data() + key_size_ * i) == 0) deleted++;
  }
  // ENOENT: that was the last of them.
  sweeping_ = !failed;
  cursor_ = next;
  return Napi::Number::New(env, deleted);
}

Napi::Value BpfMap::Close(const Napi::CallbackInfo& info) {
  DetachMemory(info.Env());
  own_.reset();
  handle_.reset();
  return info.Env().Undefined();
}

Napi::Value BpfMap::Name(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), name_); }

Napi::Value BpfMap::FdNumber(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), open() ? fd_ : -1);
}

Napi::Value BpfMap::Type(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), type_); }

Napi::Value BpfMap::KeySize(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(key_size_));
}

Napi::Value BpfMap::ValueSize(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(value_size_));
}

Napi::Value BpfMap::MaxEntries(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), max_entries_); }

napi_ref DefineBpfMap(Napi::Env env) {
  using C = JsClass<BpfMap>;
  Napi::Object holder = Napi::Object::New(env);
  C::Define(env, holder,
            {C::Getter<&BpfMap::Name>("name"), C::Getter<&BpfMap::FdNumber>("fd"), C::Getter<&BpfMap::Type>("type"),
             C::Getter<&BpfMap::KeySize>("keySize"), C::Getter<&BpfMap::ValueSize>("valueSize"),
             C::Getter<&BpfMap::MaxEntries>("maxEntries"), C::Function<&BpfMap::Lookup>("lookup"),
             C::Function<&BpfMap::Update>("update"), C::Function<&BpfMap::Delete>("delete"),
             C::Function<&BpfMap::UpdateBatch>("updateBatch"), C::Function<&BpfMap::DeleteBatch>("deleteBatch"),
             C::Function<&BpfMap::Keys>("keys"), C::Function<&BpfMap::DeleteUpTo>("deleteUpTo"),
             C::Function<&BpfMap::Memory>("memory"), C::Function<&BpfMap::Close>("close")});
  napi_ref reference = nullptr;
  napi_create_reference(env, holder.Get(BpfMap::kName), 1, &reference);
  return reference;
}

}  // namespace sluice
