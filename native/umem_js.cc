#include "umem_js.h"

#include <climits>

#include "clock.h"
#include "errno_error.h"
#include "js_args.h"
#include "js_class.h"
#include "js_memory.h"

namespace sluice {

std::unique_ptr<JsUmem> JsUmem::Create(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Object options;
  if (!ArgOptions(env, info[0], "options", {"frameCount", "chunkSize", "hugepages"}, &options)) return nullptr;
  Napi::Value value;
  uint32_t chunkSize = 0;
  if (!GetOption(env, options, "chunkSize", &value) || !ArgInteger(env, value, "chunkSize", 0, INT_MAX, &chunkSize)) {
    return nullptr;
  }
  if (chunkSize != 2048 && chunkSize != 4096) {
    FailRange(env, "chunkSize must be 2048 or 4096, got " + std::to_string(chunkSize));
    return nullptr;
  }
  uint32_t frameCount = 0;
  // Below 2 GiB: every byte offset must be an int32.
  if (!GetOption(env, options, "frameCount", &value) ||
      !ArgInteger(env, value, "frameCount", 1, INT_MAX / chunkSize, &frameCount)) {
    return nullptr;
  }
  bool hugepages = false;
  if (!GetOption(env, options, "hugepages", &value) ||
      (!value.IsUndefined() && !ArgBoolean(env, value, "hugepages", &hugepages))) {
    return nullptr;
  }
  SysError error;
  auto object = std::make_unique<JsUmem>();
  object->umem_ = Umem::Create(frameCount, chunkSize, hugepages, &error);
  if (!object->umem_) {
    ThrowErrno(env, error.err, error.syscall, error.subject, error.remedy);
    return nullptr;
  }
  const Umem& umem = *object->umem_;
  Napi::ArrayBuffer buffer = ExternalBuffer(env, umem.data(), umem.size(), umem.memory());
  if (buffer.IsEmpty()) return nullptr;
  using Class = JsClass<JsUmem>;
  const napi_property_descriptor values[] = {
      Class::Value("buffer", buffer),
      Class::Value("frameCount", Napi::Number::New(env, frameCount)),
      Class::Value("chunkSize", Napi::Number::New(env, chunkSize)),
      Class::Value("hugepages", Napi::Boolean::New(env, umem.memory()->huge())),
  };
  if (napi_define_properties(env, info.This(), 4, values) != napi_ok) return nullptr;
  object->buffer_ = Napi::Weak(buffer);
  return object;
}

Napi::Value JsUmem::Counts(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (umem_->closed()) {
    ThrowClosed(env, "UMEM");
    return {};
  }
  umem_->ExpireLimbo(NowMs());
  const FramePool& pool = umem_->pool();
  Napi::Object out = Napi::Object::New(env);
  out.Set("free", pool.free());
  // Limbo counts as fill: the kernel may still write there.
  out.Set("fill", pool.owned(FrameState::Fill) + pool.owned(FrameState::Limbo));
  out.Set("rx", pool.owned(FrameState::Rx));
  out.Set("tx", pool.owned(FrameState::Tx));
  out.Set("held", pool.owned(FrameState::Held));
  out.Set("total", pool.total());
  return out;
}

Napi::Value JsUmem::Wait(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (umem_->closed()) {
    ThrowClosed(env, "UMEM");
    return {};
  }
  int32_t timeoutMs = 0;
  if (!ArgInteger(env, info[0], "timeoutMs", 0, INT_MAX, &timeoutMs)) return {};
  return Napi::Number::New(env, umem_->Wait(timeoutMs));
}

Napi::Value JsUmem::Close(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (umem_->closed()) return env.Undefined();
  umem_->Close();
  // Views now have length 0, and the memory goes at once instead of with the next garbage collection.
  const Napi::ArrayBuffer buffer = buffer_.Value();
  if (!buffer.IsEmpty()) napi_detach_arraybuffer(env, buffer);
  return env.Undefined();
}

void InitUmem(Napi::Env env, Napi::Object exports) {
  using Class = JsClass<JsUmem>;
  Class::Define(env, exports,
                {Class::Function<&JsUmem::Counts>("counts"), Class::Function<&JsUmem::Wait>("wait"),
                 Class::Function<&JsUmem::Close>("close")});
}

}  // namespace sluice
