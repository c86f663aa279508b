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

Napi::Value RunTest(Napi::Env env, Napi::Value run_options, int program_fd) {
  Napi::Object options;
  Napi::Value data, live_value;
  uint32_t repeat = 1, ifindex = 0, queue = 0, batch = 0;
  bool live = false;
  constexpr int64_t kMax = INT32_MAX;
  if (!ArgOptions(env, run_options, "options", {"data", "repeat", "ifindex", "queue", "liveFrames", "batchSize"}, &options) ||
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

Napi::Value RunTestFrames(const Napi::CallbackInfo& info, int program_fd) {
  Napi::Env env = info.Env();
  uint32_t metadata = 0;
  if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    FailType(env, "frames must be a Uint8Array, got " + Show(info[0]));
    return env.Undefined();
  }
  if (!info[1].IsTypedArray() || info[1].As<Napi::TypedArray>().TypedArrayType() != napi_uint32_array) {
    FailType(env, "ends must be a Uint32Array, got " + Show(info[1]));
    return env.Undefined();
  }
  // XDP_METADATA_MAX of kernels before 6.2.
  constexpr int64_t kMostMetadata = 32;
  if (!info[2].IsUndefined() && !ArgInteger(env, info[2], "metadata", 0, kMostMetadata, &metadata)) return env.Undefined();
  const auto frames = info[0].As<Napi::Uint8Array>();
  const auto ends = info[1].As<Napi::Uint32Array>();
  const size_t count = ends.ElementLength();
  Napi::Int32Array results = Napi::Int32Array::New(env, count);
  size_t begin = 0;
  for (size_t i = 0; i < count; ++i) {
    const size_t end = ends[i];
    if (end < begin || end > frames.ByteLength()) {
      FailRange(env, "frame " + std::to_string(i) + " ends at " + std::to_string(end) + ", outside of frames");
      return env.Undefined();
    }
    xdp_md context = {};
    context.data = metadata;
    context.data_end = static_cast<__u32>(end - begin);
    LIBBPF_OPTS(bpf_test_run_opts, run);
    run.data_in = frames.Data() + begin;
    run.data_size_in = static_cast<__u32>(end - begin);
    if (metadata != 0) {
      run.ctx_in = &context;
      run.ctx_size_in = sizeof(context);
    }
    const int err = bpf_prog_test_run_opts(program_fd, &run);
    if (err != 0) {
      ThrowErrno(env, err, "bpf", "test run of frame " + std::to_string(i) + " with " + std::to_string(end - begin) + " bytes",
                 err == -EINVAL ? kInvalid : "");
      return env.Undefined();
    }
    results[i] = static_cast<int32_t>(run.retval);
    begin = end;
  }
  return results;
}

}  // namespace sluice
