#pragma once
// What the kernel knows of a network interface, through ioctls in the calling thread's network namespace.

#include <napi.h>
#include <stdint.h>

#include <string>

#include "sys_error.h"

namespace sluice {

struct QueueCount {
  uint32_t rx = 1;
  uint32_t tx = 1;
};

/// Index of an interface by name; false with `error` filled in (ENODEV when there is none).
bool FindInterface(const std::string& name, uint32_t* ifindex, SysError* error);

/// Queues in use: channels as ethtool -l shows them, else the queues in /sys, else 1 and 1.
QueueCount QueueCounts(const std::string& name);

/// Name of its driver as ethtool -i gives it, "" when the device does not say.
std::string DriverName(const std::string& name);

/// MTU, bytes; 0 when there is no such interface.
uint32_t LinkMtu(const std::string& name);

void InitLink(Napi::Env env, Napi::Object exports);

}  // namespace sluice
