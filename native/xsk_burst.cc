// The crossing of a burst. Runs for every burst of every packet: no allocation, no lock, system calls only where the
// kernel must be woken.

#include <errno.h>
#include <sys/socket.h>

#include <algorithm>

#include "clock.h"
#include "tap.h"
#include "xsk_socket.h"

namespace sluice {
namespace {

/// As Verdict in src/dataplane/verdict.ts. Aborted (0), Drop (1) and anything unknown give the frame back.
enum : int32_t { kDrop = 1, kPass = 2, kTx = 3, kRedirect = 4, kHold = 5 };

/// Most sendto() calls for one TX ring in one crossing. 64 of the kernel's default 32 packets each empty a ring of
/// 2048; what is left then goes with the next crossing.
constexpr int kMaxSends = 64;

/// Ethernet header: a shorter frame is taken by the kernel and lost without a trace.
constexpr int32_t kMinFrame = 14;

/// Errors of one packet or of the moment: the socket itself is well. EAGAIN: budget used up, device queue or completion
/// ring full. EBUSY: the device dropped the packet. The others: no memory just now, a signal.
bool Passing(int err) { return err == EAGAIN || err == EBUSY || err == ENOBUFS || err == ENOMEM || err == EINTR; }

}  // namespace

uint32_t XskSocket::Exchange() {
  const int32_t now = NowMs();
  umem_->ExpireLimbo(now);
  if (inHand_ > 0) Settle();
  umem_->DrainCompletions();  // before waking the kernel: with a full completion ring it sends nothing
  Refill(fillTarget_);
  umem_->DriveTx(now);
  const bool wake = fill_.needs_wakeup();
  if (wake) WakeRx();
  const uint32_t resumed = TakeResumed();
  uint32_t count = Receive(resumed);
  if (count == 0 && config_.busyPoll && !wake) {
    WakeRx();  // runs the device's poll routine here and now
    count = Receive(0);
  }
  burst_->header[0] = static_cast<int32_t>(count);
  burst_->header[1] = now;
  burst_->header[3] = static_cast<int32_t>(resumed);
  return count;
}

void XskSocket::Settle() {
  const BurstMemory& burst = *burst_;
  FramePool& pool = umem_->pool();
  uint32_t dropped = 0;
  uint32_t invalid = 0;
  uint32_t touched = 0;
  for (uint32_t i = 0; i < inHand_; ++i) {
    const uint32_t frame = frame_[i];
    const int32_t verdict = burst.verdict[i];
    if (verdict == kTx || verdict == kRedirect) {
      const uint32_t target = verdict == kTx ? config_.index : static_cast<uint32_t>(burst.target[i]);
      const int32_t offset = burst.offset[i];
      const int32_t length = burst.length[i];
      if (umem_->socket(target) && length >= kMinFrame && InsideChunk(offset, length, frame)) {
        touched |= Send(target, offset, length, frame) << target;
      } else {
        ++invalid;
        pool.Free(frame);
      }
    } else if (verdict == kPass) {
      Pass(burst.offset[i], burst.length[i], frame);
    } else if (verdict == kHold) {
      pool.Hold(frame, config_.index);
      if (resumeAtSettle_[i].length >= 0) Resume(resumeAtSettle_[i].offset, resumeAtSettle_[i].length);
    } else {
      ++dropped;
      pool.Free(frame);
    }
  }
  inHand_ = 0;
  burst.counters[kDropped] += dropped;
  burst.counters[kTxInvalid] += invalid;
  for (; touched != 0; touched &= touched - 1) {
    XskSocket* socket = umem_->socket(static_cast<uint32_t>(__builtin_ctz(touched)));
    socket->burst_->counters[kTxPackets] += socket->txReserved_;
    socket->tx_.submit(socket->txReserved_);
    socket->txReserved_ = 0;
  }
}

/// Whether the packet lies in its own frame's chunk: JavaScript may have written any two numbers.
bool XskSocket::InsideChunk(int32_t offset, int32_t length, uint32_t frame) const {
  const int64_t start = static_cast<int64_t>(frame) << umem_->chunkShift();
  const int64_t end = start + umem_->chunkSize();
  return length >= 0 && offset >= start && static_cast<int64_t>(offset) + length <= end;
}

void XskSocket::Pass(int32_t offset, int32_t length, uint32_t frame) {
  const bool taken = tap_ && length >= kMinFrame && InsideChunk(offset, length, frame) &&
                     tap_->Write(umem_->data() + offset, static_cast<size_t>(length)) == 0;
  burst_->counters[taken ? kPassPackets : kPassLost] += 1;
  umem_->pool().Free(frame);
}

/// Puts a frame of ours on the TX ring of `target`. 1 when it went there, 0 when the ring was full and the frame was
/// freed.
uint32_t XskSocket::Send(uint32_t target, int32_t offset, int32_t length, uint32_t frame) {
  XskSocket& out = *umem_->socket(target);
  FramePool& pool = umem_->pool();
  uint32_t at;
  if (out.tx_.reserve(1, &at) == 0) {
    out.burst_->counters[kTxFull] += 1;
    pool.Free(frame);
    return 0;
  }
  out.tx_.at(at) = {static_cast<uint64_t>(offset), static_cast<uint32_t>(length), 0};
  pool.Transmit(frame, config_.index, target);
  ++out.txReserved_;
  out.burst_->counters[kTxBytes] += length;
  return 1;
}

uint32_t XskSocket::DrainCompletions() {
  FramePool& pool = umem_->pool();
  const uint32_t shift = umem_->chunkShift();
  uint32_t freed = 0;
  uint32_t bogus = 0;
  uint32_t first;
  uint32_t count;
  while ((count = completion_.peek(completion_.size(), &first)) > 0) {
    for (uint32_t i = 0; i < count; ++i) {
      // Untrusted: the kernel hands back whatever a descriptor said, also for descriptors it refused.
      const bool known = pool.Completed(completion_.at(first + i) >> shift, config_.index);
      known ? ++freed : ++bogus;
    }
    completion_.release(count);
  }
  burst_->counters[kCompletions] += freed;
  burst_->counters[kCompletionBogus] += bogus;
  return freed;
}

void XskSocket::Refill(uint32_t target) {
  FramePool& pool = umem_->pool();
  const uint32_t filled = pool.owned(FrameState::Fill, config_.index);
  if (filled >= target) return;
  const uint32_t shift = umem_->chunkShift();
  uint32_t count = std::min(target - filled, pool.free());
  count = std::min(count, fill_.nb_free(count));
  uint32_t first;
  if (count == 0 || fill_.reserve(count, &first) == 0) return;
  for (uint32_t i = 0; i < count; ++i) fill_.at(first + i) = static_cast<uint64_t>(pool.Take(config_.index)) << shift;
  fill_.submit(count);
}

bool XskSocket::DriveTx(int32_t nowMs) {
  double* counters = burst_->counters;
  int32_t& sendErrno = burst_->header[2];
  for (int sends = 0; sends < kMaxSends; ++sends) {
    const uint32_t waiting = tx_.waiting();
    // A zero-copy driver sends by itself unless it asks to be woken; then it may also need that to report completions.
    if (zeroCopy_ ? !tx_.needs_wakeup() || inFlight() == 0 : waiting == 0) break;
    // Interface down or gone: once a millisecond is soon enough to see it return.
    if (sendErrno_ != 0 && sendFailedMs_ == nowMs) break;
    counters[kWakeups] += 1;
    const int err = sendto(fd_.get(), nullptr, 0, MSG_DONTWAIT, nullptr, 0) >= 0 ? 0 : errno;
    sendErrno_ = Passing(err) ? 0 : err;
    sendErrno = sendErrno_;
    if (sendErrno_ != 0) {
      sendFailedMs_ = nowMs;
      counters[kSendErrors] += 1;
      break;
    }
    if (zeroCopy_) break;
    // Copy mode sends a limited number for each call, and stops at a packet that the device dropped: go on as long as
    // something moves. Kernels before 6.17 may publish their progress in the completion ring only.
    const bool taken = tx_.waiting() != waiting;
    if (DrainCompletions() == 0 && !taken) break;
  }
  return tx_.waiting() > 0;
}

bool XskSocket::Resume(int32_t offset, int32_t length) {
  const uint32_t frame = static_cast<uint32_t>(offset) >> umem_->chunkShift();
  if (!InsideChunk(offset, length, frame)) return false;
  if (!umem_->pool().Resume(frame, config_.index)) {
    const uint32_t slot = SlotToHold(frame);
    if (slot == inHand_ || resumeAtSettle_[slot].length >= 0) return false;
    resumeAtSettle_[slot] = {offset, length};
    return true;
  }
  // A frame stands in the queue at most once, being Rx from now on: as many entries as frames are enough.
  resumed_[(resumedFirst_ + resumedCount_++) % umem_->frameCount()] = {offset, length};
  return true;
}

bool XskSocket::Release(int32_t offset) {
  const uint32_t frame = static_cast<uint32_t>(offset) >> umem_->chunkShift();
  if (umem_->pool().Release(frame, config_.index)) {
    burst_->counters[kDropped] += 1;
    return true;
  }
  const uint32_t slot = SlotToHold(frame);
  if (slot == inHand_ || resumeAtSettle_[slot].length >= 0) return false;
  burst_->verdict[slot] = kDrop;
  return true;
}

/// Slot of the burst in hand that has this frame and is to be held, `inHand_` when none has.
uint32_t XskSocket::SlotToHold(uint32_t frame) const {
  uint32_t slot = 0;
  while (slot < inHand_ && !(frame_[slot] == frame && burst_->verdict[slot] == kHold)) ++slot;
  return slot;
}

/// Puts resumed packets at the start of the new burst, oldest first. They were counted when they were received.
uint32_t XskSocket::TakeResumed() {
  if (resumedCount_ == 0) return 0;
  const BurstMemory& burst = *burst_;
  const uint32_t count = std::min(resumedCount_, config_.burst);
  for (uint32_t i = 0; i < count; ++i) {
    const Resumed& packet = resumed_[resumedFirst_];
    resumedFirst_ = (resumedFirst_ + 1) % umem_->frameCount();
    frame_[i] = static_cast<uint32_t>(packet.offset) >> umem_->chunkShift();
    resumeAtSettle_[i].length = -1;
    burst.offset[i] = packet.offset;
    burst.length[i] = packet.length;
    burst.verdict[i] = kDrop;
    burst.target[i] = 0;
  }
  resumedCount_ -= count;
  inHand_ = count;
  return count;
}

void XskSocket::WakeRx() { recvfrom(fd_.get(), nullptr, 0, MSG_DONTWAIT, nullptr, nullptr); }

/// Fills the burst up behind the `taken` packets that are in it; the number of packets that it then has.
uint32_t XskSocket::Receive(uint32_t taken) {
  const BurstMemory& burst = *burst_;
  FramePool& pool = umem_->pool();
  const uint32_t shift = umem_->chunkShift();
  const uint64_t chunk = umem_->chunkSize();
  uint32_t first;
  const uint32_t available = taken == config_.burst ? 0 : rx_.peek(config_.burst - taken, &first);
  if (available == 0) return taken;
  uint32_t count = taken;
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < available; ++i) {
    const xdp_desc desc = rx_.at(first + i);
    const uint64_t frame = desc.addr >> shift;
    if (!pool.Received(frame, config_.index)) {
      burst.counters[kCompletionBogus] += 1;
      continue;
    }
    if ((desc.addr & (chunk - 1)) + desc.len > chunk) {
      burst.counters[kCompletionBogus] += 1;
      pool.Free(static_cast<uint32_t>(frame));
      continue;
    }
    __builtin_prefetch(umem_->data() + desc.addr);
    frame_[count] = static_cast<uint32_t>(frame);
    resumeAtSettle_[count].length = -1;
    burst.offset[count] = static_cast<int32_t>(desc.addr);
    burst.length[count] = static_cast<int32_t>(desc.len);
    burst.verdict[count] = kDrop;
    burst.target[count] = 0;
    bytes += desc.len;
    ++count;
  }
  rx_.release(available);
  inHand_ = count;
  burst.counters[kRxPackets] += count - taken;
  burst.counters[kRxBytes] += static_cast<double>(bytes);
  return count;
}

}  // namespace sluice
