#pragma once
// Packet memory shared with the kernel, its frame accounting, and the sockets that use it. One thread owns all of it.

#include <stdint.h>

#include <array>
#include <memory>
#include <vector>

#include "frame_pool.h"
#include "mapping.h"
#include "sys_error.h"

namespace sluice {

class XskSocket;

class Umem {
 public:
  static constexpr uint32_t kSockets = FramePool::kSockets;
  /// How long frames of a closed socket stay out of use when a device may still read or write them. The kernel takes a
  /// zero-copy pool off its device some 20 ms after close(), from a work queue that waits for the rtnl lock; too short
  /// corrupts packets, too long only idles frames.
  static constexpr int32_t kLimboMs = 1000;

  /// Maps `frameCount` chunks; `chunkSize` is a power of two and the whole is below 2 GiB. Null with `error` filled in.
  static std::shared_ptr<Umem> Create(uint32_t frameCount, uint32_t chunkSize, bool hugepages, SysError* error);
  ~Umem();

  /// Closes every socket, then lets go of the memory: it lives on only as long as an ArrayBuffer refers to it.
  void Close();
  bool closed() const { return memory_ == nullptr; }

  const std::shared_ptr<Mapping>& memory() const { return memory_; }
  uint8_t* data() const { return data_; }
  /// frameCount * chunkSize, bytes.
  uint64_t size() const { return size_; }
  uint32_t frameCount() const { return pool_.total(); }
  uint32_t chunkSize() const { return 1u << shift_; }
  uint32_t chunkShift() const { return shift_; }

  FramePool& pool() { return pool_; }
  /// Live socket at `index`, or null.
  XskSocket* socket(uint32_t index) const { return index < kSockets ? sockets_[index] : nullptr; }
  void Add(uint32_t index, XskSocket* socket);
  /// Frees what the closed socket owned. `returned` lists its TX frames that the kernel never took; its other TX
  /// frames, and its fill frames when it was zero-copy, wait in limbo.
  void Remove(uint32_t index, bool zeroCopy, const std::vector<uint32_t>& returned);

  /// Drains the completion ring of each socket that has frames in flight.
  void DrainCompletions();
  /// Wakes the kernel for each socket that has something to send. True when some of it still waits.
  bool DriveTx(int32_t nowMs);
  /// Frees frames whose time in limbo is over.
  void ExpireLimbo(int32_t nowMs) {
    if (!limbo_.empty()) ExpireLimboSlow(nowMs);
  }

  /// Waits for received packets, at most `timeoutMs`: looks at the rings for some µs where that has paid lately, then sleeps in poll(2). 0 on time-out or
  /// signal, else at least 1. Sends what waits to be sent. Does not sleep while resumed packets wait for their socket's next exchange.
  int Wait(int32_t timeoutMs);

 private:
  Umem() = default;
  void ExpireLimboSlow(int32_t nowMs);
  bool Spin();
  void ShareFrames();

  struct Limbo {
    int32_t sinceMs;
    std::vector<uint32_t> frames;
  };

  std::shared_ptr<Mapping> memory_;
  uint8_t* data_ = nullptr;
  uint64_t size_ = 0;
  uint32_t shift_ = 0;
  FramePool pool_;
  /// Calls `visit(XskSocket*)` for each live socket: on the path of every burst, so by the bits of `live_`.
  template <class Visit>
  void ForEach(Visit visit) {
    for (uint32_t left = live_; left != 0; left &= left - 1) {
      visit(sockets_[static_cast<uint32_t>(__builtin_ctz(left))]);
    }
  }

  std::array<XskSocket*, kSockets> sockets_{};
  /// Bit i: sockets_[i] is there.
  uint32_t live_ = 0;
  std::vector<Limbo> limbo_;
  /// About what sleep and waking cost the two CPUs together: a spin in vain at most doubles the price of a sleep.
  static constexpr int64_t kSpinNs = 20'000;
  /// Spins in vain in a row until most are left out, and how many of these a spin that paid makes up for.
  static constexpr uint32_t kSpinCredit = 16;
  static constexpr uint32_t kSpinGain = 2;
  /// One in so many is tried then.
  static constexpr uint32_t kSpinAnywayEvery = 16;
  uint32_t spinCredit_ = kSpinCredit;
  uint32_t spinsLeftOut_ = 0;
};

}  // namespace sluice
