#pragma once
// Native memory as ArrayBuffers.

#include <napi.h>

#include <memory>

namespace sluice {

/// An ArrayBuffer over `data` that keeps `owner` alive until it is collected or detached. Empty, with an exception
/// pending, where the host allows no external buffers.
template <class Owner>
Napi::ArrayBuffer ExternalBuffer(Napi::Env env, void* data, size_t bytes, std::shared_ptr<Owner> owner) {
  auto* keep = new std::shared_ptr<Owner>(std::move(owner));
  napi_value buffer = nullptr;
  const auto finalize = [](napi_env, void*, void* hint) { delete static_cast<std::shared_ptr<Owner>*>(hint); };
  if (napi_create_external_arraybuffer(env, data, bytes, finalize, keep, &buffer) != napi_ok) {
    delete keep;
    if (!env.IsExceptionPending()) {
      Napi::Error::New(env, "this JavaScript host allows no buffers over native memory").ThrowAsJavaScriptException();
    }
    return {};
  }
  return Napi::ArrayBuffer(env, buffer);
}

}  // namespace sluice
