// Many entries of a map with one call: BPF_MAP_UPDATE_BATCH and BPF_MAP_DELETE_BATCH (generic_map_update_batch in
// kernel/bpf/syscall.c), which hash maps have from Linux 5.6 on and LPM tries too.

#include <bpf/bpf.h>
#include <errno.h>

#include "bpf_log.h"
#include "bpf_map.h"
#include "js_args.h"

namespace sluice {

const uint8_t* BpfMap::Many(Napi::Env env, const Napi::Value& value, const char* what, size_t size, size_t* count) const {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    FailType(env, "map " + name_ + ": the " + what + " must be a Uint8Array, got " + Show(value));
    return nullptr;
  }
  Napi::Uint8Array bytes = value.As<Napi::Uint8Array>();
  // The kernel counts in 32 bits.
  if (bytes.ByteLength() % size != 0 || bytes.ByteLength() / size > UINT32_MAX) {
    FailRange(env, "map " + name_ + ": the " + what + " must have " + std::to_string(size) + " bytes each, not " +
                       std::to_string(bytes.ByteLength()) + " in all");
    return nullptr;
  }
  *count = bytes.ByteLength() / size;
  return bytes.Data();
}

Napi::Value BpfMap::UpdateBatch(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const int fd = CheckedFd(env);
  if (fd < 0) return env.Undefined();
  size_t count = 0, values_count = 0;
  const uint8_t* keys = Many(env, info[0], "keys", key_size_, &count);
  if (!keys && env.IsExceptionPending()) return env.Undefined();
  const uint8_t* values = Many(env, info[1], "values", copy_size_, &values_count);
  if (!values && env.IsExceptionPending()) return env.Undefined();
  if (count != values_count) {
    FailRange(env, "map " + name_ + ": " + std::to_string(count) + " keys and " + std::to_string(values_count) + " values");
    return env.Undefined();
  }
  if (count == 0) return env.Undefined();
  BpfLog quiet;
  LIBBPF_OPTS(bpf_map_batch_opts, options);
  __u32 done = static_cast<__u32>(count);
  if (bpf_map_update_batch(fd, keys, values, &done, &options) != 0) Throw(env, errno, "update");
  return env.Undefined();
}

Napi::Value BpfMap::DeleteBatch(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const int fd = CheckedFd(env);
  if (fd < 0) return env.Undefined();
  size_t count = 0, deleted = 0;
  const uint8_t* keys = Many(env, info[0], "keys", key_size_, &count);
  if (!keys && env.IsExceptionPending()) return env.Undefined();
  BpfLog quiet;
  LIBBPF_OPTS(bpf_map_batch_opts, options);
  for (size_t at = 0; at < count;) {
    __u32 done = static_cast<__u32>(count - at);
    if (bpf_map_delete_batch(fd, keys + at * key_size_, &done, &options) == 0) {
      deleted += count - at;
      break;
    }
    const int err = errno;
    if (err != ENOENT) {
      Throw(env, err, "delete from");
      return env.Undefined();
    }
    // It stops at a key that is absent.
    deleted += done;
    at += done + 1;
  }
  return Napi::Number::New(env, static_cast<double>(deleted));
}

}  // namespace sluice
