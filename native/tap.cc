#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

#include "errno_error.h"
#include "js_args.h"
#include "js_class.h"
#include "link.h"

namespace sluice {

std::shared_ptr<Tap> Tap::Open(const std::string& name, SysError* error) {
  auto tap = std::make_shared<Tap>();
  tap->fd_.reset(open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!tap->fd_) {
    *error = {errno, "open", "/dev/net/tun", ""};
    return nullptr;
  }
  ifreq request{};
  memcpy(request.ifr_name, name.c_str(), std::min<size_t>(name.size(), IFNAMSIZ - 1));
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE;
  if (ioctl(tap->fd_.get(), TUNSETIFF, &request) != 0) {
    *error = {errno, "TUNSETIFF", name, ""};
    return nullptr;
  }
  request.ifr_name[IFNAMSIZ - 1] = '\0';
  tap->name_ = request.ifr_name;  // the kernel has filled in a "%d"
  if (!FindInterface(tap->name_, &tap->ifindex_, error)) return nullptr;
  return tap;
}

int Tap::Write(const uint8_t* frame, size_t length) const {
  return write(fd_.get(), frame, length) >= 0 ? 0 : errno;
}

ssize_t Tap::Read(uint8_t* frame, size_t capacity) const {
  const ssize_t length = read(fd_.get(), frame, capacity);
  if (length >= 0) return length;
  return errno == EAGAIN || errno == EINTR ? 0 : -errno;
}

std::unique_ptr<JsTap> JsTap::Create(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Object options;
  Napi::Value value;
  std::string name;
  if (!ArgOptions(env, info[0], "options", {"name"}, &options) || !GetOption(env, options, "name", &value) ||
      !ArgInterfaceName(env, value, "name", &name)) {
    return nullptr;
  }
  SysError error;
  auto object = std::make_unique<JsTap>();
  object->tap_ = Tap::Open(name, &error);
  if (!object->tap_) {
    ThrowErrno(env, error.err, error.syscall, error.subject, error.remedy);
    return nullptr;
  }
  const napi_property_descriptor values[] = {
      JsClass<JsTap>::Value("name", Napi::String::New(env, object->tap_->name())),
      JsClass<JsTap>::Value("ifindex", Napi::Number::New(env, object->tap_->ifindex())),
  };
  if (napi_define_properties(env, info.This(), 2, values) != napi_ok) return nullptr;
  return object;
}

Napi::Value JsTap::Write(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (tap_->closed()) {
    ThrowClosed(env, "tap");
    return {};
  }
  if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    FailType(env, "frame must be a Uint8Array, got " + Show(info[0]));
    return {};
  }
  const auto frame = info[0].As<Napi::Uint8Array>();
  const size_t length = frame.ByteLength();
  if (length < 14) {
    FailRange(env, "a frame has at least 14 bytes, got " + std::to_string(length));
    return {};
  }
  if (const int err = tap_->Write(frame.Data(), length)) {
    ThrowErrno(env, err, "write", tap_->name());
    return {};
  }
  return Napi::Number::New(env, static_cast<double>(length));
}

Napi::Value JsTap::Read(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (tap_->closed()) {
    ThrowClosed(env, "tap");
    return {};
  }
  uint8_t frame[Tap::kMaxFrame];
  const ssize_t length = tap_->Read(frame, sizeof(frame));
  if (length < 0) {
    ThrowErrno(env, static_cast<int>(-length), "read", tap_->name());
    return {};
  }
  if (length == 0) return env.Null();
  Napi::Uint8Array copy = Napi::Uint8Array::New(env, static_cast<size_t>(length));
  if (!copy.IsEmpty()) memcpy(copy.Data(), frame, static_cast<size_t>(length));
  return copy;
}

Napi::Value JsTap::OnReadable(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (tap_->closed()) {
    ThrowClosed(env, "tap");
    return {};
  }
  if (!info[0].IsFunction() && !info[0].IsNull()) {
    FailType(env, "callback must be a function or null, got " + Show(info[0]));
    return {};
  }
  watch_.reset();
  if (info[0].IsFunction()) watch_ = Readable::Watch(env, tap_->fd(), info[0].As<Napi::Function>());
  return env.Undefined();
}

Napi::Value JsTap::Close(const Napi::CallbackInfo& info) {
  Shutdown();
  return info.Env().Undefined();
}

void InitTap(Napi::Env env, Napi::Object exports) {
  using Class = JsClass<JsTap>;
  Class::Define(env, exports,
                {Class::Function<&JsTap::Write>("write"), Class::Function<&JsTap::Read>("read"),
                 Class::Function<&JsTap::OnReadable>("onReadable"), Class::Function<&JsTap::Close>("close")});
}

}  // namespace sluice
