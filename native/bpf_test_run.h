#pragma once
// BPF_PROG_TEST_RUN for XDP programs.

#include <napi.h>

namespace sluice {

/// testRun(…, options) of src/native.ts for the program behind `program_fd`.
Napi::Value RunTest(Napi::Env env, Napi::Value run_options, int program_fd);

/// runFrames(frames, ends, metadata) of src/native.ts.
Napi::Value RunTestFrames(const Napi::CallbackInfo& info, int program_fd);

}  // namespace sluice
