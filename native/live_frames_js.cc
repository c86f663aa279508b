#include "live_frames_js.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>

#include "errno_error.h"
#include "js_args.h"
#include "js_class.h"

namespace sluice {
namespace {

/// An hour: a load that nobody ends does not go on for days.
constexpr int64_t kLongestMs = 3600000;
/// TEST_XDP_MAX_BATCH of net/bpf/test_run.c.
constexpr int64_t kLargestBatch = 256;
constexpr uint32_t kMostParts = 16;

/// A copy: the owner may close its own while the load goes on.
bool CopyFd(Napi::Env env, int fd, const char* what, Fd* out) {
  out->reset(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (*out) return true;
  ThrowErrno(env, errno, "fcntl", "descriptor " + std::to_string(fd) + " of " + what);
  return false;
}

bool ReadPart(Napi::Env env, Napi::Value value, LivePart* part) {
  Napi::Object options;
  Napi::Value fd_value, frame_value;
  int fd = -1;
  if (!ArgOptions(env, value, "a part", {"program", "frame", "weight"}, &options) ||
      !GetOption(env, options, "program", &fd_value) || !ArgInteger(env, fd_value, "program", 0, INT32_MAX, &fd) ||
      !OptInteger(env, options, "weight", 1, 1000, &part->weight) || !GetOption(env, options, "frame", &frame_value)) {
    return false;
  }
  if (!frame_value.IsTypedArray() || frame_value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    return FailType(env, "frame must be a Uint8Array, got " + Show(frame_value));
  }
  const auto frame = frame_value.As<Napi::Uint8Array>();
  if (frame.ByteLength() < 14 || frame.ByteLength() > 4096) {
    return FailRange(env, "a frame has 14 to 4096 bytes, got " + std::to_string(frame.ByteLength()));
  }
  part->frame.assign(frame.Data(), frame.Data() + frame.ByteLength());
  return CopyFd(env, fd, "a program", &part->program);
}

bool ReadParts(Napi::Env env, Napi::Value value, std::vector<LivePart>* parts) {
  if (!value.IsArray()) return FailType(env, "parts must be an array, got " + Show(value));
  const auto array = value.As<Napi::Array>();
  const uint32_t count = array.Length();
  if (count == 0 || count > kMostParts) {
    return FailRange(env, "parts must have 1 to " + std::to_string(kMostParts) + " of them, got " + std::to_string(count));
  }
  parts->resize(count);
  for (uint32_t i = 0; i < count; ++i) {
    const Napi::Value part = array[i];
    if (env.IsExceptionPending() || !ReadPart(env, part, &(*parts)[i])) return false;
  }
  return true;
}

}  // namespace

std::unique_ptr<JsLiveFrames> JsLiveFrames::Create(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Object options;
  Napi::Value parts, rate, duration, counters;
  LiveLoad load;
  uint64_t duration_ms = 0;
  if (!ArgOptions(env, info[0], "options",
                  {"parts", "ifindex", "batchSize", "packets", "durationMs", "packetsPerSecond", "cpu", "counters"}, &options) ||
      !GetOption(env, options, "parts", &parts) || !ReadParts(env, parts, &load.parts) ||
      !OptInteger(env, options, "ifindex", 1, INT32_MAX, &load.ifindex) ||
      !OptInteger(env, options, "batchSize", 1, kLargestBatch, &load.batch) ||
      !OptInteger(env, options, "packets", 0, int64_t{1} << 52, &load.packets) ||
      !GetOption(env, options, "durationMs", &duration) ||
      !ArgInteger(env, duration, "durationMs", 1, kLongestMs, &duration_ms) ||
      !OptInteger(env, options, "cpu", 0, CPU_SETSIZE - 1, &load.cpu) ||
      !GetOption(env, options, "packetsPerSecond", &rate) || !GetOption(env, options, "counters", &counters)) {
    return nullptr;
  }
  if (load.ifindex == 0) {
    FailRange(env, "ifindex is missing");
    return nullptr;
  }
  if (!rate.IsUndefined()) {
    load.packets_per_second = rate.IsNumber() ? rate.As<Napi::Number>().DoubleValue() : -1;
    if (!(load.packets_per_second >= 0 && load.packets_per_second <= 1e9)) {
      FailRange(env, "packetsPerSecond must be a number from 0 to 1e9, got " + Show(rate));
      return nullptr;
    }
  }
  if (!counters.IsUndefined()) {
    int fd = -1;
    if (!ArgInteger(env, counters, "counters", 0, INT32_MAX, &fd) || !CopyFd(env, fd, "a map", &load.counters)) return nullptr;
  }
  load.duration_ns = duration_ms * 1000000;
  auto object = std::make_unique<JsLiveFrames>();
  object->run_ = std::make_unique<LiveRun>(std::move(load));
  SysError error;
  if (object->run_->Start(&error)) return object;
  ThrowErrno(env, error.err, error.syscall, error.subject, error.remedy);
  return nullptr;
}

Napi::Value JsLiveFrames::Progress(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!run_) {
    ThrowClosed(env, "load");
    return {};
  }
  const LiveProgress progress = run_->progress();
  if (!progress.running && run_->error().err != 0) {
    const SysError& error = run_->error();
    ThrowErrno(env, error.err, error.syscall, error.subject, error.remedy);
    return {};
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("packets", static_cast<double>(progress.packets));
  result.Set("runs", static_cast<double>(progress.runs));
  result.Set("elapsedNs", static_cast<double>(progress.elapsed_ns));
  result.Set("cpuNs", static_cast<double>(progress.cpu_ns));
  result.Set("running", progress.running);
  return result;
}

Napi::Value JsLiveFrames::Stop(const Napi::CallbackInfo& info) {
  if (run_) run_->Stop();
  return info.Env().Undefined();
}

Napi::Value JsLiveFrames::Close(const Napi::CallbackInfo& info) {
  Shutdown();
  return info.Env().Undefined();
}

void InitLiveFrames(Napi::Env env, Napi::Object exports) {
  using Class = JsClass<JsLiveFrames>;
  Class::Define(env, exports,
                {Class::Function<&JsLiveFrames::Progress>("progress"), Class::Function<&JsLiveFrames::Stop>("stop"),
                 Class::Function<&JsLiveFrames::Close>("close")});
}

}  // namespace sluice
