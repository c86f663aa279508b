#pragma once
// One queue of a TAP device: the way of a Pass verdict into the host's stack. Free of Node-API except InitTap.

#include <napi.h>
#include <stdint.h>
#include <sys/types.h>

#include <memory>
#include <string>

#include "addon.h"
#include "fd.h"
#include "readable.h"
#include "sys_error.h"

namespace sluice {

class Tap {
 public:
  /// Largest frame that read() takes; a TAP's MTU cannot be larger.
  static constexpr size_t kMaxFrame = 65536 + 18;

  /// A new queue of `name`, which is made when it is not there and goes with its last queue. Null with `error` filled
  /// in.
  static std::shared_ptr<Tap> Open(const std::string& name, SysError* error);

  /// Gives one Ethernet frame to the host. 0 or errno, never blocks; EBADF after Close().
  int Write(const uint8_t* frame, size_t length) const;
  /// Takes one frame that the host sent: its length, 0 for none, or -errno.
  ssize_t Read(uint8_t* frame, size_t capacity) const;
  void Close() { fd_.reset(); }
  bool closed() const { return !fd_.valid(); }
  int fd() const { return fd_.get(); }

  const std::string& name() const { return name_; }
  uint32_t ifindex() const { return ifindex_; }

 private:
  Fd fd_;
  std::string name_;
  uint32_t ifindex_ = 0;
};

/// The JavaScript class Tap.
class JsTap : public NativeObject {
 public:
  static constexpr const char* kName = "Tap";
  static std::unique_ptr<JsTap> Create(const Napi::CallbackInfo& info);

  const char* kind() const override { return kName; }
  void Shutdown() override {
    // The watch goes first: it must not see the descriptor closed, or taken by another file.
    watch_.reset();
    tap_->Close();
  }
  const std::shared_ptr<Tap>& tap() const { return tap_; }

  Napi::Value Write(const Napi::CallbackInfo& info);
  Napi::Value Read(const Napi::CallbackInfo& info);
  Napi::Value OnReadable(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);

 private:
  std::shared_ptr<Tap> tap_;
  std::unique_ptr<Readable> watch_;
};

void InitTap(Napi::Env env, Napi::Object exports);

}  // namespace sluice
