#pragma once
// The monotonic clock as the data path uses it.

#include <stdint.h>
#include <time.h>

namespace sluice {

/// CLOCK_MONOTONIC in milliseconds, wrapping int32: compare by difference only.
inline int32_t NowMs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  const uint64_t ms = static_cast<uint64_t>(now.tv_sec) * 1000 + static_cast<uint64_t>(now.tv_nsec) / 1000000;
  return static_cast<int32_t>(static_cast<uint32_t>(ms));
}

/// CLOCK_MONOTONIC in nanoseconds.
inline int64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1000000000 + now.tv_nsec;
}

/// Between two looks at memory that another CPU will change: leaves the core's resources to its sibling, and the line to the writer.
inline void Relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");
#endif
}

inline int32_t ElapsedMs(int32_t since, int32_t now) {
  return static_cast<int32_t>(static_cast<uint32_t>(now) - static_cast<uint32_t>(since));
}

inline void SleepUs(int32_t us) {
  const timespec pause = {us / 1000000, (us % 1000000) * 1000L};
  nanosleep(&pause, nullptr);
}

}  // namespace sluice
