#include "umem.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>

#include <algorithm>
#include <string>

#include "clock.h"
#include "xsk_socket.h"

namespace sluice {

std::shared_ptr<Umem> Umem::Create(uint32_t frameCount, uint32_t chunkSize, bool hugepages, SysError* error) {
  std::shared_ptr<Umem> umem(new Umem());
  umem->shift_ = static_cast<uint32_t>(__builtin_ctz(chunkSize));
  umem->size_ = static_cast<uint64_t>(frameCount) << umem->shift_;
  auto memory = std::make_shared<Mapping>(Mapping::Anonymous(umem->size_, hugepages));
  if (!memory->valid() || !umem->pool_.Init(frameCount)) {
    const int err = memory->valid() ? ENOMEM : errno;
    *error = {err, "mmap", "packet memory of " + std::to_string(umem->size_) + " bytes", ""};
    return nullptr;
  }
  // Packets are nobody's business in a core dump. A child of fork must not get them either: for memory that a device
  // writes to, the kernel would copy every page at fork time.
  madvise(memory->data(), memory->size(), MADV_DONTDUMP);
  madvise(memory->data(), memory->size(), MADV_DONTFORK);
  umem->data_ = memory->data();
  umem->memory_ = std::move(memory);
  return umem;
}

Umem::~Umem() { Close(); }

void Umem::Close() {
  ForEach([](XskSocket* socket) { socket->Close(0); });
  data_ = nullptr;
  memory_.reset();
}

void Umem::Add(uint32_t index, XskSocket* socket) {
  sockets_[index] = socket;
  live_ |= 1u << index;
  ShareFrames();
}

void Umem::Remove(uint32_t index, bool zeroCopy, const std::vector<uint32_t>& returned) {
  sockets_[index] = nullptr;
  live_ &= ~(1u << index);
  for (const uint32_t frame : returned) pool_.Free(frame);
  // In copy mode the kernel stops writing to fill frames before close() returns (xsk_unbind_dev waits for its readers).
  // A packet that was taken but not completed may still be read from its frame, by a driver that builds packets around
  // it.
  Limbo limbo{NowMs(), {}};
  for (uint32_t frame = 0; frame < pool_.total(); ++frame) {
    if (pool_.is(frame, FrameState::Rx, index) || pool_.is(frame, FrameState::Held, index)) {
      pool_.Free(frame);
    } else if (pool_.is(frame, FrameState::Tx, index) || pool_.is(frame, FrameState::Fill, index)) {
      if (pool_.is(frame, FrameState::Fill, index) && !zeroCopy) {
        pool_.Free(frame);
      } else {
        pool_.Retire(frame);
        limbo.frames.push_back(frame);
      }
    }
  }
  if (!limbo.frames.empty()) limbo_.push_back(std::move(limbo));
  ShareFrames();
}

void Umem::ExpireLimboSlow(int32_t nowMs) {
  // Oldest first. An absurd difference (the clock wrapped while nobody looked) is over, too.
  while (!limbo_.empty()) {
    const int32_t elapsed = ElapsedMs(limbo_.front().sinceMs, nowMs);
    if (elapsed >= 0 && elapsed < kLimboMs) return;
    for (const uint32_t frame : limbo_.front().frames) pool_.Free(frame);
    limbo_.erase(limbo_.begin());
  }
}

/// A quarter of the frames never enters a fill ring: they are what bursts and TX rings live on when every socket's fill
/// ring is full. The rest is divided evenly. More than its RX ring holds is no use to a socket.
void Umem::ShareFrames() {
  if (live_ == 0) return;
  const auto sockets = static_cast<uint32_t>(__builtin_popcount(live_));
  const uint32_t share = std::max(1u, (pool_.total() - pool_.total() / 4) / sockets);
  ForEach([share](XskSocket* socket) {
    socket->SetFillTarget(std::min({share, socket->config().rxSize, socket->config().fillSize}));
  });
}

void Umem::DrainCompletions() {
  ForEach([](XskSocket* socket) {
    if (socket->inFlight() > 0) socket->DrainCompletions();
  });
}

bool Umem::DriveTx(int32_t nowMs) {
  bool waiting = false;
  ForEach([&waiting, nowMs](XskSocket* socket) {
    if (socket->inFlight() > 0) waiting |= socket->DriveTx(nowMs);
  });
  return waiting;
}

/// Looks at the RX rings for some µs; true when one has packets. Pays while packets come every few µs: to sleep and be woken takes longer than that, and the
/// waking is work of the CPU that has the sender's interrupts. Where looking was mostly in vain, it is tried one time in a few only.
bool Umem::Spin() {
  if (spinCredit_ == 0 && ++spinsLeftOut_ < kSpinAnywayEvery) return false;
  spinsLeftOut_ = 0;
  const int64_t end = NowNs() + kSpinNs;
  do {
    for (uint32_t left = live_; left != 0; left &= left - 1) {
      if (sockets_[static_cast<uint32_t>(__builtin_ctz(left))]->receivable()) {
        spinCredit_ = std::min(spinCredit_ + kSpinGain, kSpinCredit);
        return true;
      }
    }
    Relax();
  } while (NowNs() < end);
  if (spinCredit_ > 0) --spinCredit_;
  return false;
}

int Umem::Wait(int32_t timeoutMs) {
  pollfd fds[kSockets];
  nfds_t count = 0;
  ForEach([&](XskSocket* socket) { fds[count++] = {socket->fd(), POLLIN, 0}; });
  bool resumed = false;
  ForEach([&resumed](const XskSocket* socket) { resumed |= socket->resumedWaiting() > 0; });
  if (timeoutMs > 0 && !resumed && Spin()) return 1;
  const int32_t start = NowMs();
  // While something waits to be sent (interface down, device queue full) sleep in slices that grow: soon enough for the
  // queue that frees up in microseconds, and no more than 60 wake-ups a second for the interface that stays down.
  int32_t slice = 1;
  for (;;) {
    DrainCompletions();
    const int32_t now = NowMs();
    const bool sending = DriveTx(now);
    const int32_t left = std::max(0, timeoutMs - std::max(0, ElapsedMs(start, now)));
    const int woken = poll(fds, count, resumed ? 0 : sending ? std::min(left, slice) : left);
    if (resumed) return std::max(1, woken);
    if (woken != 0) return std::max(0, woken);
    if (left == 0 || ElapsedMs(start, NowMs()) >= timeoutMs) return 0;
    slice = std::min(slice * 2, 16);
  }
}

}  // namespace sluice
