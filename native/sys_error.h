#pragma once
// A failed system call on its way up to where JavaScript can be told (errno_error.h). Free of Node-API.

#include <string>

namespace sluice {

struct SysError {
  int err = 0;
  const char* syscall = "";
  /// What it was about: "eth0 queue 3".
  std::string subject;
  /// The next step, or "" to take it from the table.
  std::string remedy;
};

}  // namespace sluice
