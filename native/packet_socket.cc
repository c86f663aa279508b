#include "packet_socket.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <sys/socket.h>

#include "errno_error.h"
#include "js_args.h"
#include "js_class.h"
#include "link.h"

namespace sluice {

std::unique_ptr<JsPacketSocket> JsPacketSocket::Create(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Object options;
  Napi::Value value;
  auto object = std::make_unique<JsPacketSocket>();
  if (!ArgOptions(env, info[0], "options", {"interface"}, &options) ||
      !GetOption(env, options, "interface", &value) || !ArgInterfaceName(env, value, "interface", &object->interface_)) {
    return nullptr;
  }
  SysError error;
  uint32_t ifindex = 0;
  if (!FindInterface(object->interface_, &ifindex, &error)) {
    ThrowErrno(env, error.err, error.syscall, error.subject, error.remedy);
    return nullptr;
  }
  // Protocol 0: nothing that arrives is ever queued here (packet(7)).
  object->fd_.reset(socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!object->fd_) {
    ThrowErrno(env, errno, "socket", "AF_PACKET", errno == EPERM ? "AF_PACKET sockets need CAP_NET_RAW." : "");
    return nullptr;
  }
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_ifindex = static_cast<int>(ifindex);
  if (bind(object->fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    ThrowErrno(env, errno, "bind", object->interface_);
    return nullptr;
  }
  return object;
}

Napi::Value JsPacketSocket::Send(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!fd_) {
    ThrowClosed(env, "packet socket");
    return {};
  }
  if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    FailType(env, "frame must be a Uint8Array, got " + Show(info[0]));
    return {};
  }
  const auto frame = info[0].As<Napi::Uint8Array>();
  if (frame.ByteLength() < ETHER_HDR_LEN) {
    FailRange(env, "a frame has at least 14 bytes, got " + std::to_string(frame.ByteLength()));
    return {};
  }
  if (send(fd_.get(), frame.Data(), frame.ByteLength(), 0) < 0) ThrowErrno(env, errno, "send", interface_);
  return env.Undefined();
}

Napi::Value JsPacketSocket::Close(const Napi::CallbackInfo& info) {
  fd_.reset();
  return info.Env().Undefined();
}

void InitPacketSocket(Napi::Env env, Napi::Object exports) {
  using Class = JsClass<JsPacketSocket>;
  Class::Define(env, exports,
                {Class::Function<&JsPacketSocket::Send>("send"), Class::Function<&JsPacketSocket::Close>("close")});
}

}  // namespace sluice
