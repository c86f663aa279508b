#pragma once
// `const volatile` settings of a BPF object, written before it is loaded.

#include <bpf/libbpf.h>
#include <napi.h>

namespace sluice {

/// Writes each property of `values` into the integer of that name in the object's .rodata section. All or nothing: the
/// object is unchanged after an exception. RangeError for a name that is not there (with the names that are) or a number
/// that does not fit, TypeError for what is no integer.
void WriteRodata(Napi::Env env, struct bpf_object* object, Napi::Object values);

}  // namespace sluice
