#pragma once
// Services of the process: memory, clock, identity, namespace.

#include <napi.h>

namespace sluice {

void InitProcess(Napi::Env env, Napi::Object exports);

}  // namespace sluice
