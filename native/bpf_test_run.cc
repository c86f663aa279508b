#include "bpf_test_run.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>

#include <cmath>
#include <string>
#include <vector>

#include "errno_error.h"

namespace sluice {
namespace {

/// A program may grow the packet into its headroom (XDP_PACKET_HEADROOM, 256 bytes) and tailroom.
constexpr size_t kGrowth = 1024;

constexpr char kInvalid[] =
    "The packet needs at least 14 bytes and must fit one page with its headroom; ifindex and queue must exist in this "
    "namespace, and a queue other than the loopback's needs an interface with XDP attached.";

/// An unsigned option; `fallback` when absent. Sets *ok to false after throwing.
uint32_t Number(Napi::Env env, Napi::Object options, const char* name, uint32_t fallback, bool* ok) {
  Napi::Value value = options.Get(name);
  if (value.IsUndefined()) return fallback;
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  if (number >= 0 && number <= 0x7fffffff && std::trunc(number) == number) return static_cast<uint32_t>(number);
  Napi::RangeError::New(env, std::string("testRun: ") + name + " must be an integer from 0 to 2147483647")
      .ThrowAsJavaScriptException();
  *ok = false;
  return 0;
}

}  // namespace

Napi::Value RunTest(const Napi::CallbackInfo& info, int program_fd) {
  Napi::Env env = info.Env();
  Napi::Object options = info[1].IsObject() ? info[1].As<Napi::Object>() : Napi::Object::New(env);
  Napi::Value data = options.Get("data");
  if (!data.IsTypedArray() || data.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    Napi::TypeError::New(env, "testRun(program, options): options.data must be a Uint8Array").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  Napi::Uint8Array packet = data.As<Napi::Uint8Array>();
  bool ok = true;
  const uint32_t repeat = Number(env, options, "repeat", 1, &ok);
  const uint32_t ifindex = Number(env, options, "ifindex", 0, &ok);
  const uint32_t queue = ok ? Number(env, options, "queue", 0, &ok) : 0;
  const uint32_t batch = ok ? Number(env, options, "batchSize", 0, &ok) : 0;
  const bool live = options.Get("liveFrames").ToBoolean().Value();
  if (!ok) return env.Undefined();

  // The kernel wants data_end to be the packet's length and data the length of metadata in front of it, here none.
  xdp_md context = {};
  context.data_end = static_cast<__u32>(packet.ByteLength());
  context.ingress_ifindex = ifindex;
  context.rx_queue_index = queue;

  std::vector<uint8_t> out(live ? 0 : packet.ByteLength() + kGrowth);
  LIBBPF_OPTS(bpf_test_run_opts, run);
  run.data_in = packet.Data();
  run.data_size_in = static_cast<__u32>(packet.ByteLength());
  run.repeat = static_cast<int>(repeat);
  if (ifindex != 0 || queue != 0) {
    run.ctx_in = &context;
    run.ctx_size_in = sizeof(context);
  }
  if (live) {
    run.flags = BPF_F_TEST_XDP_LIVE_FRAMES;
    run.batch_size = batch;
  } else {
    run.data_out = out.data();
    run.data_size_out = static_cast<__u32>(out.size());
  }

  const int err = bpf_prog_test_run_opts(program_fd, &run);
  if (err != 0) {
    ThrowErrno(env, err, "bpf", "test run with " + std::to_string(packet.ByteLength()) + " bytes",
               err == -EINVAL ? kInvalid : "");
    return env.Undefined();
  }
  const size_t length = live ? 0 : run.data_size_out;
  Napi::Uint8Array result_data = Napi::Uint8Array::New(env, length);
  if (length > 0) std::copy(out.begin(), out.begin() + static_cast<long>(length), result_data.Data());
  Napi::Object result = Napi::Object::New(env);
  result.Set("retval", run.retval);
  result.Set("data", result_data);
  result.Set("durationNs", run.duration);
  return result;
}

}  // namespace sluice
