// Many entries of a hash map read with one call: BPF_MAP_LOOKUP_BATCH (__htab_map_lookup_and_delete_batch in kernel/bpf/hashtab.c), which
// hash maps, LRU ones too, have from Linux 5.6 on.

#include <bpf/bpf.h>
#include <errno.h>

#include <algorithm>
#include <vector>

#include "bpf_log.h"
#include "bpf_map.h"
#include "js_args.h"

namespace sluice {

Napi::Value BpfMap::LookupBatch(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const int fd = CheckedFd(env);
  if (fd < 0) return env.Undefined();
  size_t key_room = 0, value_room = 0;
  const uint8_t* keys = Many(env, info[0], "keys", key_size_, &key_room);
  if (!keys && env.IsExceptionPending()) return env.Undefined();
  const uint8_t* values = Many(env, info[1], "values", copy_size_, &value_room);
  if (!values && env.IsExceptionPending()) return env.Undefined();
  if (key_room != value_room || key_room == 0) {
    FailRange(env, "map " + name_ + ": there must be room for as many values as keys, at least one, not for " +
                       std::to_string(key_room) + " keys and " + std::to_string(value_room) + " values");
    return env.Undefined();
  }
  const bool begins = info[2].IsNull();
  __u32 from = 0, next = 0;
  if (!begins && !ArgInteger(env, info[2], "from", 0, UINT32_MAX, &from)) return env.Undefined();

  // The kernel puts values at multiples of eight bytes, whatever their size.
  const size_t stride = (copy_size_ + 7) / 8 * 8;
  std::vector<uint8_t> padded(stride == copy_size_ ? 0 : stride * value_room);
  uint8_t* to = padded.empty() ? const_cast<uint8_t*>(values) : padded.data();
  BpfLog quiet;
  __u32 count = static_cast<__u32>(key_room);
  const bool failed =
      bpf_map_lookup_batch(fd, begins ? nullptr : &from, &next, const_cast<uint8_t*>(keys), to, &count, nullptr) != 0;
  const int err = errno;
  if (failed && err != ENOENT) {
    Throw(env, err, "read");
    return env.Undefined();
  }
  for (size_t i = 0; !padded.empty() && i < count; i++) {
    std::copy_n(padded.data() + stride * i, copy_size_, const_cast<uint8_t*>(values) + copy_size_ * i);
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("count", Napi::Number::New(env, count));
  // ENOENT: that was the last of them.
  result.Set("next", failed ? env.Null() : Napi::Value(Napi::Number::New(env, next)));
  return result;
}

}  // namespace sluice
