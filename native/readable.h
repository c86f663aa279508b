#pragma once
// Calls JavaScript when a descriptor has something to read, through the event loop that runs it: no thread, no spinning.

#include <napi.h>
#include <uv.h>

#include <memory>

namespace sluice {

/// A watch on one descriptor, which must stay open for as long. Does not keep the process alive.
class Readable {
 public:
  /// Starts; null after throwing. Level-triggered: `callback` is called in each turn of the loop while there is
  /// something to read, without arguments. What it throws is an uncaught exception.
  static std::unique_ptr<Readable> Watch(Napi::Env env, int fd, Napi::Function callback);
  /// Stops. May be called from the callback, and after the environment has begun to end.
  ~Readable();

 private:
  /// libuv owns the handle until its close callback has run, longer than this object lives.
  struct Handle;
  explicit Readable(Handle* handle) : handle_(handle) {}
  Handle* handle_;
};

}  // namespace sluice
