// The values of an array map as memory of this process: mmap of the map's descriptor (array_map_mmap in kernel/bpf/arraymap.c), which arrays made with
// BPF_F_MMAPABLE have from Linux 5.5 on.

#include <bpf/bpf.h>
#include <errno.h>
#include <unistd.h>

#include <memory>
#include <utility>

#include "bpf_map.h"
#include "errno_error.h"
#include "js_args.h"
#include "js_memory.h"
#include "mapping.h"

namespace sluice {

Napi::Value BpfMap::Memory(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const int fd = CheckedFd(env);
  if (fd < 0) return env.Undefined();
  if (!memory_.IsEmpty()) {
    const Napi::ArrayBuffer buffer = memory_.Value();
    if (!buffer.IsEmpty()) return buffer;
  }
  bpf_map_info about{};
  __u32 length = sizeof(about);
  if (bpf_obj_get_info_by_fd(fd, &about, &length) != 0) {
    Throw(env, errno, "ask about");
    return env.Undefined();
  }
  if (about.type != BPF_MAP_TYPE_ARRAY || !(about.map_flags & BPF_F_MMAPABLE)) {
    ThrowErrno(env, EINVAL, "mmap", "map " + name_, "Only arrays that were made with BPF_F_MMAPABLE (1024) can be mapped.");
    return env.Undefined();
  }
  // As the kernel lays them out: values on boundaries of eight bytes, in whole pages.
  const size_t bytes = (value_size_ + 7) / 8 * 8 * max_entries_;
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  auto mapping = std::make_shared<Mapping>(Mapping::Shared(fd, (bytes + page - 1) / page * page, 0));
  if (!mapping->valid()) {
    ThrowErrno(env, errno, "mmap", "map " + name_);
    return env.Undefined();
  }
  uint8_t* data = mapping->data();
  Napi::ArrayBuffer buffer = ExternalBuffer(env, data, bytes, std::move(mapping));
  if (buffer.IsEmpty()) return env.Undefined();
  memory_ = Napi::Weak(buffer);
  return buffer;
}

void BpfMap::DetachMemory(Napi::Env env) {
  if (memory_.IsEmpty()) return;
  const Napi::ArrayBuffer buffer = memory_.Value();
  memory_.Reset();
  if (!buffer.IsEmpty()) napi_detach_arraybuffer(env, buffer);
}

}  // namespace sluice
