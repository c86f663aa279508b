#include "socket_filter.h"

#include <errno.h>
#include <linux/filter.h>
#include <sys/socket.h>

#include "errno_error.h"
#include "js_args.h"
#include "js_class.h"

namespace sluice {
namespace {

/// Words that JavaScript has for an instruction: code, jt, jf, k.
constexpr size_t kWords = 4;

}  // namespace

std::unique_ptr<JsSocketFilter> JsSocketFilter::Create(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_int32_array) {
    FailType(env, "program must be an Int32Array, got " + Show(info[0]));
    return nullptr;
  }
  const auto words = info[0].As<Napi::Int32Array>();
  const size_t count = words.ElementLength() / kWords;
  if (count * kWords != words.ElementLength() || count > UINT16_MAX) {
    FailRange(env, "a program has four words an instruction, got " + std::to_string(words.ElementLength()) + " words");
    return nullptr;
  }
  std::vector<sock_filter> code(count);
  for (size_t i = 0; i < count; ++i) {
    const int32_t* from = words.Data() + i * kWords;
    code[i] = {static_cast<uint16_t>(from[0]), static_cast<uint8_t>(from[1]), static_cast<uint8_t>(from[2]),
               static_cast<uint32_t>(from[3])};
  }
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0) {
    ThrowErrno(env, errno, "socketpair", "AF_UNIX");
    return nullptr;
  }
  auto object = std::make_unique<JsSocketFilter>();
  object->sender_.reset(pair[0]);
  object->receiver_.reset(pair[1]);
  const sock_fprog program{static_cast<unsigned short>(count), code.data()};
  if (setsockopt(pair[1], SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) != 0) {
    ThrowErrno(env, errno, "setsockopt", "SO_ATTACH_FILTER", errno == EINVAL ? "The kernel refuses the program." : "");
    return nullptr;
  }
  return object;
}

Napi::Value JsSocketFilter::Run(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!sender_) {
    ThrowClosed(env, "socket filter");
    return {};
  }
  if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    FailType(env, "packet must be a Uint8Array, got " + Show(info[0]));
    return {};
  }
  const auto packet = info[0].As<Napi::Uint8Array>();
  if (send(sender_.get(), packet.Data(), packet.ByteLength(), 0) < 0) {
    ThrowErrno(env, errno, "send", "AF_UNIX");
    return {};
  }
  // A datagram lies in the receiver's queue before send() returns, cut to what the program returned. MSG_TRUNC asks for
  // its length, whatever the buffer's.
  char byte = 0;
  const ssize_t kept = recv(receiver_.get(), &byte, sizeof(byte), MSG_TRUNC | MSG_DONTWAIT);
  if (kept < 0 && errno != EAGAIN) {
    ThrowErrno(env, errno, "recv", "AF_UNIX");
    return {};
  }
  return Napi::Number::New(env, kept < 0 ? 0 : static_cast<double>(kept));
}

void JsSocketFilter::Shutdown() {
  sender_.reset();
  receiver_.reset();
}

Napi::Value JsSocketFilter::Close(const Napi::CallbackInfo& info) {
  Shutdown();
  return info.Env().Undefined();
}

void InitSocketFilter(Napi::Env env, Napi::Object exports) {
  using Class = JsClass<JsSocketFilter>;
  Class::Define(env, exports,
                {Class::Function<&JsSocketFilter::Run>("run"), Class::Function<&JsSocketFilter::Close>("close")});
}

}  // namespace sluice
