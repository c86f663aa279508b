#pragma once
// Registration of the BPF part: BpfObject, BpfMap, BpfLink, BpfProgram, loadProgram, createMap, queryXdp, libbpfVersion.

#include <napi.h>

namespace sluice {

/// Adds `BpfObject`, `loadProgram`, `createMap`, `queryXdp` and `libbpfVersion` to `exports`. AddonData must be set before.
/// Maps, links and programs are classes too, but JavaScript cannot construct them.
Napi::Object InitBpf(Napi::Env env, Napi::Object exports);

/// Constructors that JavaScript cannot name. The references live as long as the environment, which frees them.
struct BpfState {
  napi_ref map_class = nullptr;
  napi_ref link_class = nullptr;
  napi_ref program_class = nullptr;
};

/// This environment's BpfState; InitBpf made it.
BpfState& BpfStateOf(Napi::Env env);

/// `new <the class behind constructor>(external)`, where external carries `argument` for the length of the call: the
/// class's Create() reads it with ConstructionArgument(). Empty after an exception.
Napi::Value Construct(Napi::Env env, napi_ref constructor, void* argument);

/// What Construct() passed; null, with a TypeError pending, when JavaScript called the constructor itself.
void* ConstructionArgument(const Napi::CallbackInfo& info, const char* class_name);

}  // namespace sluice
