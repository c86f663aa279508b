#include "bpf_test_run.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>

#include <algorithm>
#include <string>
#include <vector>

#include "errno_error.h"
#include "js_args.h"

namespace sluice {
namespace {

/// A program may grow the packet into its headroom (XDP_PACKET_HEADROOM, 256 bytes) and tailroom.
constexpr size_t kGrowth = 1024;

constexpr char kInvalid[] =
    "The packet needs at least 14 bytes and must fit one page with its headroom; ifindex and queue must exist in this "
    "namespace, and a queue other than the loopback's needs an interface with XDP attached.";

}  // namespace

Napi::Value RunTest(const Napi::CallbackInfo& info, int program_fd) {
  Napi::Env env = info.Env();
  Napi::Object options;
  Napi::Value data, live_value;
  uint32_t repeat = 1, ifindex = 0, queue = 0, batch = 0;
  bool live = false;
  constexpr int64_t kMax = INT32_MAX;
  if (!ArgOptions(env, info[1], "options", {"data", "repeat", "ifindex", "queue", "liveFrames", "batchSize"}, &options) ||
      !GetOption(env, options, "data", &data) || !OptInteger(env, options, "repeat", 1, kMax, &repeat) ||
      !OptInteger(env, options, "ifindex", 0, kMax, &ifindex) || !OptInteger(env, options, "queue", 0, kMax, &queue) ||
      !OptInteger(env, options, "batchSize", 0, kMax, &batch) || !GetOption(env, options, "liveFrames", &live_value) ||
      !(live_value.IsUndefined() || ArgBoolean(env, live_value, "liveFrames", &live))) {
    return env.Undefined();
  }
  if (!data.IsTypedArray() || data.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    FailType(env, "data must be a Uint8Array, got " + Show(data));
    return env.Undefined();
  }
  // Nothing calls JavaScript from here on: the bytes stay where they are.
  Napi::Uint8Array packet = data.As<Napi::Uint8Array>();

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
