#include "xsk_socket_js.h"

#include <climits>

#include "errno_error.h"
#include "js_args.h"
#include "js_class.h"
#include "js_memory.h"
#include "tap.h"
#include "umem_js.h"

namespace sluice {
namespace {

bool ReadMode(Napi::Env env, Napi::Object options, XskMode* mode) {
  Napi::Value value;
  std::string text;
  if (!GetOption(env, options, "mode", &value) || !ArgString(env, value, "mode", &text)) return false;
  if (text == "auto") {
    *mode = XskMode::Auto;
  } else if (text == "zero-copy") {
    *mode = XskMode::ZeroCopy;
  } else if (text == "copy") {
    *mode = XskMode::Copy;
  } else {
    return FailRange(env, "mode must be auto, zero-copy or copy, got " + Show(value));
  }
  return true;
}

bool ReadRingSize(Napi::Env env, Napi::Object options, const char* name, uint32_t* size) {
  if (!OptInteger(env, options, name, 1, 1 << 20, size)) return false;
  if ((*size & (*size - 1)) == 0) return true;
  return FailRange(env, std::string(name) + " must be a power of two, got " + std::to_string(*size));
}

bool ReadBusyPoll(Napi::Env env, Napi::Object options, XskConfig* config) {
  Napi::Value value;
  if (!GetOption(env, options, "busyPoll", &value)) return false;
  if (value.IsUndefined()) return true;
  Napi::Object busy;
  Napi::Value timeout;
  Napi::Value budget;
  config->busyPoll = true;
  return ArgOptions(env, value, "busyPoll", {"timeoutUs", "budget"}, &busy) &&
         GetOption(env, busy, "timeoutUs", &timeout) && GetOption(env, busy, "budget", &budget) &&
         ArgInteger(env, timeout, "busyPoll.timeoutUs", 0, INT_MAX, &config->busyPollTimeout) &&
         ArgInteger(env, budget, "busyPoll.budget", 1, 65535, &config->busyPollBudget);
}

bool ReadConfig(Napi::Env env, Napi::Value argument, XskConfig* config) {
  Napi::Object options;
  Napi::Value interface;
  Napi::Value queue;
  Napi::Value index;
  return ArgOptions(env, argument, "options",
                    {"interface", "queue", "mode", "index", "rxSize", "txSize", "fillSize", "completionSize", "burst",
                     "busyPoll", "busyRetryMs"},
                    &options) &&
         GetOption(env, options, "interface", &interface) && GetOption(env, options, "queue", &queue) &&
         GetOption(env, options, "index", &index) &&
         ArgInterfaceName(env, interface, "interface", &config->interface) &&
         ArgInteger(env, queue, "queue", 0, INT_MAX, &config->queue) && ReadMode(env, options, &config->mode) &&
         ArgInteger(env, index, "index", 0, Umem::kSockets - 1, &config->index) &&
         ReadRingSize(env, options, "rxSize", &config->rxSize) &&
         ReadRingSize(env, options, "txSize", &config->txSize) &&
         ReadRingSize(env, options, "fillSize", &config->fillSize) &&
         ReadRingSize(env, options, "completionSize", &config->completionSize) &&
         OptInteger(env, options, "burst", 1, 1024, &config->burst) && ReadBusyPoll(env, options, config) &&
         OptInteger(env, options, "busyRetryMs", 0, 60000, &config->busyRetryMs);
}

template <class Ring>
Napi::Object RingState(Napi::Env env, const Ring& ring) {
  Napi::Object out = Napi::Object::New(env);
  out.Set("producer", ring.producer());
  out.Set("consumer", ring.consumer());
  out.Set("size", ring.size());
  return out;
}

}  // namespace

std::unique_ptr<JsXskSocket> JsXskSocket::Create(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const JsUmem* owner = JsClass<JsUmem>::Unwrap(env, info[0], *AddonData::Of(env));
  if (!owner) {
    FailType(env, "umem must be a Umem, got " + Show(info[0]));
    return nullptr;
  }
  // Getters of the options may run any code: close the UMEM, or open a socket at the same index. Look afterwards.
  std::shared_ptr<Umem> umem = owner->umem();
  XskConfig config;
  if (!ReadConfig(env, info[1], &config)) return nullptr;
  if (umem->closed()) {
    ThrowClosed(env, "UMEM");
    return nullptr;
  }
  if (umem->socket(config.index)) {
    FailRange(env, "index " + std::to_string(config.index) + " is taken by an open socket of this UMEM");
    return nullptr;
  }
  SysError error;
  auto object = std::make_unique<JsXskSocket>();
  object->socket_ = XskSocket::Open(std::move(umem), config, &error);
  if (!object->socket_) {
    ThrowErrno(env, error.err, error.syscall, error.subject, error.remedy);
    return nullptr;
  }
  object->addon_ = AddonData::Of(env);
  object->id_ = static_cast<uint32_t>(object->addon_->sockets.size());
  object->addon_->sockets.push_back(object.get());
  if (!object->DefineValues(env, info.This().As<Napi::Object>())) return nullptr;
  return object;
}

JsXskSocket::~JsXskSocket() {
  if (addon_) addon_->sockets[id_] = nullptr;
}

bool JsXskSocket::DefineValues(Napi::Env env, Napi::Object self) const {
  const std::shared_ptr<BurstMemory>& burst = socket_->burst();
  const uint32_t capacity = socket_->config().burst;
  Napi::ArrayBuffer memory = ExternalBuffer(env, burst->block.data(), burst->block.size(), burst);
  if (memory.IsEmpty()) return false;
  const auto ints = [&](const int32_t* start, size_t count) {
    const auto* base = reinterpret_cast<const int32_t*>(burst->block.data());
    return Napi::Int32Array::New(env, count, memory, static_cast<size_t>(start - base) * sizeof(int32_t));
  };
  using Class = JsClass<JsXskSocket>;
  const napi_property_descriptor values[] = {
      Class::Value("id", Napi::Number::New(env, id_)),
      Class::Value("fd", Napi::Number::New(env, socket_->fd())),
      Class::Value("ifindex", Napi::Number::New(env, socket_->ifindex())),
      Class::Value("queue", Napi::Number::New(env, socket_->config().queue)),
      Class::Value("zeroCopy", Napi::Boolean::New(env, socket_->zeroCopy())),
      Class::Value("header", ints(burst->header, BurstMemory::kHeaderInts)),
      Class::Value("offset", ints(burst->offset, capacity)),
      Class::Value("length", ints(burst->length, capacity)),
      Class::Value("verdict", ints(burst->verdict, capacity)),
      Class::Value("target", ints(burst->target, capacity)),
      Class::Value("counters", Napi::Float64Array::New(env, kPortCounters, memory, 0)),
  };
  return napi_define_properties(env, self, sizeof(values) / sizeof(values[0]), values) == napi_ok;
}

napi_value JsXskSocket::Exchange(napi_env env, napi_callback_info info) {
  napi_value self = nullptr;
  void* data = nullptr;
  if (napi_get_cb_info(env, info, nullptr, nullptr, &self, &data) != napi_ok) return nullptr;
  JsXskSocket* object = JsClass<JsXskSocket>::Unwrap(env, self, *static_cast<AddonData*>(data));
  if (!object) {
    napi_throw_type_error(env, nullptr, "this is not a XskSocket");
    return nullptr;
  }
  return ExchangeOf(env, object);
}

napi_value JsXskSocket::ExchangeById(napi_env env, napi_callback_info info) {
  size_t arguments = 1;
  napi_value argument = nullptr;
  void* data = nullptr;
  if (napi_get_cb_info(env, info, &arguments, &argument, nullptr, &data) != napi_ok) return nullptr;
  const std::vector<JsXskSocket*>& sockets = static_cast<AddonData*>(data)->sockets;
  uint32_t id = 0;
  if (napi_get_value_uint32(env, argument, &id) != napi_ok || id >= sockets.size() || !sockets[id]) {
    napi_throw_type_error(env, nullptr, "there is no XskSocket of this id");
    return nullptr;
  }
  return ExchangeOf(env, sockets[id]);
}

napi_value JsXskSocket::ExchangeOf(napi_env env, JsXskSocket* object) {
  if (object->socket_->closed()) {
    ThrowClosed(env, "socket");
    return nullptr;
  }
  napi_value count = nullptr;
  napi_create_uint32(env, object->socket_->Exchange(), &count);
  return count;
}

bool JsXskSocket::CheckOpen(Napi::Env env) const {
  if (socket_->closed()) ThrowClosed(env, "socket");
  return !socket_->closed();
}

Napi::Value JsXskSocket::Resume(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int32_t offset = 0;
  int32_t length = 0;
  if (!CheckOpen(env) || !ArgInteger(env, info[0], "offset", INT_MIN, INT_MAX, &offset) ||
      !ArgInteger(env, info[1], "length", INT_MIN, INT_MAX, &length)) {
    return {};
  }
  return Napi::Boolean::New(env, socket_->Resume(offset, length));
}

Napi::Value JsXskSocket::Release(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int32_t offset = 0;
  if (!CheckOpen(env) || !ArgInteger(env, info[0], "offset", INT_MIN, INT_MAX, &offset)) return {};
  return Napi::Boolean::New(env, socket_->Release(offset));
}

Napi::Value JsXskSocket::Compose(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  uint32_t most = 0;
  if (!CheckOpen(env) || !ArgInteger(env, info[0], "count", 0, INT_MAX, &most)) return {};
  return Napi::Number::New(env, socket_->Compose(most));
}

Napi::Value JsXskSocket::SetTap(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!CheckOpen(env)) return {};
  if (info[0].IsNull()) {
    socket_->SetTap(nullptr);
    return env.Undefined();
  }
  const JsTap* tap = JsClass<JsTap>::Unwrap(env, info[0], *AddonData::Of(env));
  if (!tap) {
    FailType(env, "tap must be a Tap or null, got " + Show(info[0]));
    return {};
  }
  socket_->SetTap(tap->tap());
  return env.Undefined();
}

Napi::Value JsXskSocket::Statistics(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!CheckOpen(env)) return {};
  xdp_statistics statistics;
  if (const int err = socket_->Statistics(&statistics)) {
    ThrowErrno(env, err, "getsockopt", "statistics of " + socket_->config().interface);
    return {};
  }
  Napi::Object out = Napi::Object::New(env);
  out.Set("rxDropped", static_cast<double>(statistics.rx_dropped));
  out.Set("rxInvalidDescs", static_cast<double>(statistics.rx_invalid_descs));
  out.Set("txInvalidDescs", static_cast<double>(statistics.tx_invalid_descs));
  out.Set("rxRingFull", static_cast<double>(statistics.rx_ring_full));
  out.Set("rxFillRingEmptyDescs", static_cast<double>(statistics.rx_fill_ring_empty_descs));
  out.Set("txRingEmptyDescs", static_cast<double>(statistics.tx_ring_empty_descs));
  return out;
}

Napi::Value JsXskSocket::Rings(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!CheckOpen(env)) return {};
  Napi::Object out = Napi::Object::New(env);
  out.Set("fill", RingState(env, socket_->fill()));
  out.Set("rx", RingState(env, socket_->rx()));
  out.Set("tx", RingState(env, socket_->tx()));
  out.Set("completion", RingState(env, socket_->completion()));
  return out;
}

Napi::Value JsXskSocket::Error(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!CheckOpen(env)) return {};
  return Napi::Number::New(env, socket_->Error());
}

Napi::Value JsXskSocket::Close(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int32_t drainMs = 0;
  if (!info[0].IsUndefined() && !ArgInteger(env, info[0], "drainMs", 0, INT_MAX, &drainMs)) return {};
  socket_->Close(drainMs);
  return env.Undefined();
}

void InitXskSocket(Napi::Env env, Napi::Object exports) {
  using Class = JsClass<JsXskSocket>;
  const napi_property_descriptor exchange = {"exchange", nullptr, &JsXskSocket::Exchange, nullptr, nullptr, nullptr,
                                             napi_default_method, AddonData::Of(env).get()};
  Class::Define(env, exports,
                {exchange, Class::Function<&JsXskSocket::Resume>("resume"),
                 Class::Function<&JsXskSocket::Release>("release"), Class::Function<&JsXskSocket::Compose>("compose"),
                 Class::Function<&JsXskSocket::SetTap>("setTap"),
                 Class::Function<&JsXskSocket::Statistics>("statistics"), Class::Function<&JsXskSocket::Rings>("rings"),
                 Class::Function<&JsXskSocket::Error>("error"), Class::Function<&JsXskSocket::Close>("close")});
  const napi_property_descriptor byId = {"exchangeSocket", nullptr, &JsXskSocket::ExchangeById, nullptr, nullptr, nullptr, napi_enumerable,
                                         AddonData::Of(env).get()};
  napi_define_properties(env, exports, 1, &byId);
}

}  // namespace sluice
