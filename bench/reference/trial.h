// Trials of the path bench: the fixture that they read, and how they are timed.

#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "loop_port.h"

constexpr uint32_t kMagic = 0x736c7563;
constexpr int kSlices = 12;

inline double CpuNs() {
  timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

inline const int32_t* MapFile(const char* name) {
  const int fd = open(name, O_RDONLY);
  struct stat st;
  if (fd < 0 || fstat(fd, &st) != 0) {
    perror(name);
    exit(1);
  }
  const auto* file = static_cast<const int32_t*>(mmap(nullptr, st.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0));
  if (file == MAP_FAILED) {
    perror(name);
    exit(1);
  }
  return file;
}

inline const int32_t* ReadFixture(const char* name) {
  const int32_t* file = MapFile(name);
  if (static_cast<uint32_t>(file[0]) != kMagic || static_cast<uint32_t>(file[2]) != kFrameBytes) {
    fprintf(stderr, "%s is no fixture\n", name);
    exit(1);
  }
  return file;
}

/** Medians of slices, as bench/path/child.ts. `run` does a number of bursts and returns ns a packet. */
template <typename Run>
std::vector<double> Measure(Run run, uint32_t flows, double milliseconds) {
  run(static_cast<int>(flows / kBurst) + 1);
  const double per_burst = run(2000) * kBurst;
  const int bursts = std::max(100, static_cast<int>(milliseconds * 1e6 / kSlices / per_burst));
  run(bursts);
  std::vector<double> slices;
  for (int i = 0; i < kSlices; i++) slices.push_back(run(bursts));
  std::sort(slices.begin(), slices.end());
  return slices;
}
