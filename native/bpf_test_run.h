#pragma once
// BPF_PROG_TEST_RUN for XDP programs.

#include <napi.h>

namespace sluice {

/// testRun(program, options) of src/native.ts for the program behind `program_fd`.
Napi::Value RunTest(const Napi::CallbackInfo& info, int program_fd);

}  // namespace sluice
