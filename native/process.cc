#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <climits>
#include <cstdint>
#include <memory>
#include <string>

#include "clock.h"
#include "errno_error.h"
#include "fd.h"
#include "js_args.h"
#include "js_memory.h"
#include "mapping.h"

namespace sluice {
namespace {

/// Tables larger than this are a mistake in the arithmetic of the caller.
constexpr int64_t kMaxAllocation = int64_t{1} << 36;

Napi::Value Allocate(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  size_t bytes = 0;
  bool huge = false;
  if (!ArgInteger(env, info[0], "bytes", 1, kMaxAllocation, &bytes)) return {};
  if (!info[1].IsUndefined() && !ArgBoolean(env, info[1], "hugepages", &huge)) return {};
  auto memory = std::make_shared<Mapping>(Mapping::Anonymous(bytes, huge));
  if (!memory->valid()) {
    ThrowErrno(env, errno, "mmap", std::to_string(bytes) + " bytes");
    return {};
  }
  uint8_t* data = memory->data();
  return ExternalBuffer(env, data, bytes, std::move(memory));
}

Napi::Value NowMsValue(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), NowMs()); }

/// What the calling thread has had of a processor, in ns: unlike the time of day it does not count being preempted.
Napi::Value ThreadCpuNs(const Napi::CallbackInfo& info) {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return Napi::Number::New(info.Env(), static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec));
}

/// The low 32 bits of the same as int32, to compare by difference: V8 keeps it without an object on its heap.
Napi::Value ThreadCpuNs32(const Napi::CallbackInfo& info) {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  const uint64_t ns = static_cast<uint64_t>(now.tv_sec) * 1000000000 + static_cast<uint64_t>(now.tv_nsec);
  return Napi::Number::New(info.Env(), static_cast<int32_t>(static_cast<uint32_t>(ns)));
}

/// glibc's setgroups, setgid and setuid act on all threads (nptl(7)); a raw system call or capset() would leave libuv's
/// and V8's threads privileged. PR_SET_NO_NEW_PRIVS is the calling thread's, and is inherited by what it starts.
Napi::Value DropPrivileges(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  uid_t uid = 0;
  gid_t gid = 0;
  // 2^32 - 1 means "leave it" to the kernel, and must not pass for a success.
  if (!ArgInteger(env, info[0], "uid", 0, UINT32_MAX - 1, &uid)) return {};
  if (!ArgInteger(env, info[1], "gid", 0, UINT32_MAX - 1, &gid)) return {};
  const std::string who = "user " + std::to_string(uid) + ", group " + std::to_string(gid);
  const auto fail = [&](const char* syscall) {
    ThrowErrno(env, errno, syscall, who);
    return Napi::Value();
  };
  if (setgroups(0, nullptr) != 0) return fail("setgroups");
  if (setgid(gid) != 0) return fail("setgid");
  if (setuid(uid) != 0) return fail("setuid");
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return fail("prctl");
  return env.Undefined();
}

Napi::Value EnterNetns(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::string path;
  if (!ArgString(env, info[0], "path", &path)) return {};
  const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) {
    ThrowErrno(env, errno, "open", path,
               errno == ENOENT ? "There is no such network namespace: see `ip netns`, or use `ip netns add`." : "");
    return {};
  }
  if (setns(fd.get(), CLONE_NEWNET) != 0) {
    ThrowErrno(env, errno, "setns", path);
    return {};
  }
  return env.Undefined();
}

}  // namespace

void InitProcess(Napi::Env env, Napi::Object exports) {
  exports.Set("allocate", Napi::Function::New(env, Allocate, "allocate"));
  exports.Set("nowMs", Napi::Function::New(env, NowMsValue, "nowMs"));
  exports.Set("threadCpuNs", Napi::Function::New(env, ThreadCpuNs, "threadCpuNs"));
  exports.Set("threadCpuNs32", Napi::Function::New(env, ThreadCpuNs32, "threadCpuNs32"));
  exports.Set("dropPrivileges", Napi::Function::New(env, DropPrivileges, "dropPrivileges"));
  exports.Set("enterNetns", Napi::Function::New(env, EnterNetns, "enterNetns"));
}

}  // namespace sluice
