#pragma once
// A failed system call as a JavaScript Error that says what to do next.

#include <napi.h>

#include <string>

namespace sluice {

/// "EBUSY" for 16; "E<number>" for one that libc does not name.
std::string ErrnoName(int err);

/// The next step for a failed `syscall`, one sentence, or "" when the table knows none. `subject` is what the call was
/// about ("eth0 queue 3") and appears in the sentences that name it. Looks for (syscall, err) first, then for err
/// alone.
std::string RemedyFor(const char* syscall, int err, const std::string& subject);

/// An Error with `code` ("EBUSY"), `errno` (positive), `syscall` and `remedy`; message "bind eth0 queue 3: EBUSY,
/// Device or resource busy". `err` may be positive or, as libbpf returns it, negative. An empty `remedy` is looked up
/// in the table. Only makes it: the caller throws (`.ThrowAsJavaScriptException()`) and returns.
Napi::Error MakeErrnoError(Napi::Env env, int err, const char* syscall, const std::string& subject,
                           const std::string& remedy = "");

/// Same, thrown.
void ThrowErrno(Napi::Env env, int err, const char* syscall, const std::string& subject,
                const std::string& remedy = "");

}  // namespace sluice
