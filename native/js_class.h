#pragma once
// JavaScript classes over NativeObject, on raw Node-API callbacks.
//
// node-addon-api's ObjectWrap trusts `this`: a method borrowed onto another wrapped object reinterprets its memory.
// Here every call looks the unwrapped pointer up in the environment's live set and compares the class first.

#include <napi.h>

#include <cstring>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>

#include "addon.h"

namespace sluice {

/// Error for the use of something after its close(); code SLUICE_STATE.
inline void ThrowClosed(Napi::Env env, const char* what) {
  Napi::Error error = Napi::Error::New(env, std::string("the ") + what + " is closed");
  error.Value().Set("code", "SLUICE_STATE");
  error.ThrowAsJavaScriptException();
}

/// T needs: base NativeObject, `static constexpr const char* kName`, and `static std::unique_ptr<T> Create(const
/// Napi::CallbackInfo&)`, which returns null after throwing.
template <class T>
class JsClass {
 public:
  using Method = Napi::Value (T::*)(const Napi::CallbackInfo&);

  /// The T inside `value`, or null when it is anything else.
  static T* Unwrap(napi_env env, napi_value value, AddonData& addon) {
    void* pointer = nullptr;
    if (napi_unwrap(env, value, &pointer) != napi_ok) return nullptr;
    auto* object = static_cast<NativeObject*>(pointer);
    if (!object || !addon.IsLive(object)) return nullptr;
    // Equal pointers are the usual case, but a literal need not have one address in all files.
    if (object->kind() != T::kName && strcmp(object->kind(), T::kName) != 0) return nullptr;
    return static_cast<T*>(object);
  }

  static napi_property_descriptor Value(const char* name, napi_value value) {
    return {name, nullptr, nullptr, nullptr, nullptr, value, napi_enumerable, nullptr};
  }

  template <Method method>
  static napi_property_descriptor Function(const char* name) {
    return {name, nullptr, &Call<method>, nullptr, nullptr, nullptr, napi_default_method, nullptr};
  }

  template <Method method>
  static napi_property_descriptor Getter(const char* name) {
    return {name, nullptr, nullptr, &Call<method>, nullptr, nullptr, napi_enumerable, nullptr};
  }

  /// Puts the class on `exports` under T::kName.
  static void Define(Napi::Env env, Napi::Object exports, std::initializer_list<napi_property_descriptor> members) {
    napi_value constructor = nullptr;
    if (napi_define_class(env, T::kName, NAPI_AUTO_LENGTH, &Construct, nullptr, members.size(), members.begin(),
                          &constructor) == napi_ok) {
      exports.Set(T::kName, Napi::Value(env, constructor));
    }
  }

 private:
  static napi_value Construct(napi_env env, napi_callback_info raw) {
    Napi::CallbackInfo info(env, raw);
    if (info.NewTarget().IsEmpty()) {
      Napi::TypeError::New(env, std::string(T::kName) + " is a class: call it with new").ThrowAsJavaScriptException();
      return nullptr;
    }
    std::unique_ptr<T> created = T::Create(info);
    if (!created) return nullptr;
    NativeObject* object = created.get();
    // The pair keeps the environment's data alive until the last finalizer has run.
    auto* keep = new Kept(AddonData::Of(env), object);
    // Fails when the worker is being terminated: then nobody will ever use the object.
    if (napi_wrap(env, info.This(), object, &Finalize, keep, nullptr) != napi_ok) {
      delete keep;
      return nullptr;
    }
    keep->first->live.insert(created.release());
    return info.This();
  }

  using Kept = std::pair<std::shared_ptr<AddonData>, NativeObject*>;

  static void Finalize(napi_env, void*, void* hint) {
    std::unique_ptr<Kept> kept(static_cast<Kept*>(hint));
    kept->first->live.erase(kept->second);
    kept->first->last = nullptr;
    delete kept->second;
  }

  template <Method method>
  static napi_value Call(napi_env env, napi_callback_info raw) {
    Napi::CallbackInfo info(env, raw);
    T* self = Unwrap(env, info.This(), *AddonData::Of(env));
    if (!self) {
      Napi::TypeError::New(env, std::string("this is not a ") + T::kName).ThrowAsJavaScriptException();
      return nullptr;
    }
    return (self->*method)(info);
  }
};

}  // namespace sluice
