#pragma once
// Arguments from JavaScript, checked: each function throws a TypeError or RangeError that names the argument and its
// value, and then returns false.

#include <napi.h>
#include <net/if.h>
#include <stdint.h>

#include <cmath>
#include <cstring>
#include <initializer_list>
#include <string>

namespace sluice {

/// `value` as text for a message; never throws, never calls the user's code.
inline std::string Show(Napi::Value value) {
  if (value.IsNumber() || value.IsBoolean() || value.IsNull() || value.IsUndefined()) {
    Napi::String text = value.ToString();
    return text.IsEmpty() ? "?" : text.Utf8Value();
  }
  if (value.IsString()) return "\"" + value.As<Napi::String>().Utf8Value().substr(0, 64) + "\"";
  return value.IsFunction() ? "a function" : value.IsObject() ? "an object" : "a value of another type";
}

inline bool FailType(Napi::Env env, const std::string& message) {
  if (!env.IsExceptionPending()) Napi::TypeError::New(env, message).ThrowAsJavaScriptException();
  return false;
}

inline bool FailRange(Napi::Env env, const std::string& message) {
  if (!env.IsExceptionPending()) Napi::RangeError::New(env, message).ThrowAsJavaScriptException();
  return false;
}

/// A whole number from `min` to `max`, all below 2^53.
template <class Integer>
bool ArgInteger(Napi::Env env, Napi::Value value, const char* name, int64_t min, int64_t max, Integer* out) {
  if (!value.IsNumber()) return FailType(env, std::string(name) + " must be a number, got " + Show(value));
  const double number = value.As<Napi::Number>().DoubleValue();
  // Comparisons with NaN are false, so it fails here too.
  if (!(number >= static_cast<double>(min) && number <= static_cast<double>(max)) || std::floor(number) != number) {
    return FailRange(env, std::string(name) + " must be a whole number from " + std::to_string(min) + " to " +
                              std::to_string(max) + ", got " + Show(value));
  }
  *out = static_cast<Integer>(number);
  return true;
}

inline bool ArgBoolean(Napi::Env env, Napi::Value value, const char* name, bool* out) {
  if (!value.IsBoolean()) return FailType(env, std::string(name) + " must be true or false, got " + Show(value));
  *out = value.As<Napi::Boolean>().Value();
  return true;
}

inline bool ArgString(Napi::Env env, Napi::Value value, const char* name, std::string* out) {
  if (!value.IsString()) return FailType(env, std::string(name) + " must be a string, got " + Show(value));
  *out = value.As<Napi::String>().Utf8Value();
  // The kernel would see only the part in front of it.
  if (out->find('\0') != std::string::npos) return FailType(env, std::string(name) + " must not contain NUL");
  return true;
}

/// A name that an interface can have: 1-15 bytes, no slash, no white space (dev_valid_name in net/core/dev.c).
inline bool ArgInterfaceName(Napi::Env env, Napi::Value value, const char* name, std::string* out) {
  if (!ArgString(env, value, name, out)) return false;
  const bool valid = !out->empty() && out->size() < IFNAMSIZ && *out != "." && *out != ".." &&
                     out->find_first_of("/: \t\n\v\f\r") == std::string::npos;
  return valid || FailRange(env, std::string(name) + " must be an interface name of 1 to 15 bytes, got " + Show(value));
}

/// An options object that has no property but `known`: a misspelt option must not be silently ignored.
inline bool ArgOptions(Napi::Env env, Napi::Value value, const char* name, std::initializer_list<const char*> known,
                       Napi::Object* out) {
  if (!value.IsObject() || value.IsFunction()) {
    return FailType(env, std::string(name) + " must be an object, got " + Show(value));
  }
  *out = value.As<Napi::Object>();
  Napi::Array keys = out->GetPropertyNames();
  if (env.IsExceptionPending()) return false;
  for (uint32_t i = 0; i < keys.Length(); ++i) {
    const std::string key = Napi::Value(keys[i]).As<Napi::String>().Utf8Value();
    bool found = false;
    for (const char* candidate : known) found = found || key == candidate;
    if (!found) return FailType(env, std::string(name) + " has no option \"" + key.substr(0, 64) + "\"");
  }
  return true;
}

/// A property; false when its getter threw. `*out` is undefined when it is absent.
inline bool GetOption(Napi::Env env, Napi::Object options, const char* name, Napi::Value* out) {
  *out = options.Get(name);
  return !env.IsExceptionPending() && !out->IsEmpty();
}

/// An optional whole number; `*out` keeps its default when absent.
template <class Integer>
bool OptInteger(Napi::Env env, Napi::Object options, const char* name, int64_t min, int64_t max, Integer* out) {
  Napi::Value value;
  if (!GetOption(env, options, name, &value)) return false;
  return value.IsUndefined() || ArgInteger(env, value, name, min, max, out);
}

}  // namespace sluice
