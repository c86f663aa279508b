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
  // By runs of packets that go the same way, which most bursts have few of.
  for (uint32_t i = 0; i < inHand_;) {
    switch (burst.verdict[i]) {
      case kTx:
      case kRedirect:
        i = SendRun(i);
        break;
      case kPass:
        Pass(burst.offset[i], burst.length[i], frame_[i]);
        ++i;
        break;
      case kHold:
        umem_->pool().Hold(frame_[i], config_.index);
        if (resumeAtSettle_[i].length >= 0) Resume(resumeAtSettle_[i].offset, resumeAtSettle_[i].length);
        ++i;
        break;
      default:
        i = DropRun(i);
    }
  }
  inHand_ = 0;
}

/// Frees the packet at `first` and those behind it whose verdict is none that keeps them. Where they end.
uint32_t XskSocket::DropRun(uint32_t first) {
  const int32_t* const verdict = burst_->verdict;
  const uint32_t* const frame = frame_.get();
  const uint32_t end = inHand_;
  uint32_t i = first;
  {
    FramePool::Returns dropped(umem_->pool(), FrameState::Rx, config_.index);
    for (; i < end && !(verdict[i] >= kPass && verdict[i] <= kHold); ++i) dropped(frame[i]);
  }
  burst_->counters[kDropped] += i - first;
  return i;
}

/// Puts the packet at `first` and those behind it that leave by the same socket on its TX ring. Where they end. What cannot be sent, or has no room, is freed.
uint32_t XskSocket::SendRun(uint32_t first) {
  const BurstMemory& burst = *burst_;
  FramePool& pool = umem_->pool();
  const uint32_t target = Leaves(first);
  XskSocket* const out = umem_->socket(target);
  if (!out) {
    burst.counters[kTxInvalid] += 1;
    pool.Free(frame_[first]);
    return first + 1;
  }
  uint32_t at = 0;
  const uint32_t most = inHand_ - first;
  const uint32_t room = out->tx_.reserve(std::min(most, out->tx_.nb_free(most)), &at);
  const auto entries = out->tx_.entries();
  const int32_t* const verdict = burst.verdict;
  const uint32_t* const frame = frame_.get();
  const uint32_t end = inHand_;
  uint32_t sent = 0;
  uint32_t full = 0;
  uint32_t invalid = 0;
  uint64_t bytes = 0;
  uint32_t i = first;
  {
    FramePool::Changes sending(pool, FrameState::Rx, FrameState::Tx, config_.index, target);
    for (; i < end && (verdict[i] == kTx || verdict[i] == kRedirect) && Leaves(i) == target; ++i) {
      const int32_t offset = burst.offset[i];
      const int32_t length = burst.length[i];
      if (length < kMinFrame || !InsideChunk(offset, length, frame[i])) {
        ++invalid;
        pool.Free(frame[i]);
      } else if (sent == room) {
        ++full;
        pool.Free(frame[i]);
      } else {
        entries[at + sent] = {static_cast<uint64_t>(offset), static_cast<uint32_t>(length), 0};
        sending(frame[i]);
        ++sent;
        bytes += static_cast<uint32_t>(length);
      }
    }
  }
  out->tx_.cancel(room - sent);
  if (sent > 0) out->tx_.submit(sent);
  burst.counters[kTxInvalid] += invalid;
  double* const counters = out->burst_->counters;
  counters[kTxFull] += full;
  counters[kTxPackets] += sent;
  counters[kTxBytes] += static_cast<double>(bytes);
  return i;
}

/// Number of the socket that a packet to be sent leaves by; JavaScript may have written any.
inline uint32_t XskSocket::Leaves(uint32_t slot) const {
  return burst_->verdict[slot] == kTx ? config_.index : static_cast<uint32_t>(burst_->target[slot]);
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

uint32_t XskSocket::DrainCompletions() {
  const uint32_t shift = umem_->chunkShift();
  const auto entries = completion_.entries();
  uint32_t freed = 0;
  uint32_t seen = 0;
  uint32_t first;
  uint32_t count;
  while ((count = completion_.peek(completion_.size(), &first)) > 0) {
    // Untrusted: the kernel hands back whatever a descriptor said, also for descriptors it refused.
    FramePool::Returns completed(umem_->pool(), FrameState::Tx, config_.index);
    for (uint32_t i = 0; i < count; ++i) completed(entries[first + i] >> shift);
    completion_.release(count);
    seen += count;
    freed += completed.count();
  }
  if (seen > 0) {
    burst_->counters[kCompletions] += freed;
    burst_->counters[kCompletionBogus] += seen - freed;
  }
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
  const uint32_t* frames = pool.Take(count, FrameState::Fill, config_.index);
  const auto entries = fill_.entries();
  for (uint32_t i = 0; i < count; ++i) entries[first + i] = static_cast<uint64_t>(frames[count - 1 - i]) << shift;
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
  uint32_t first;
  const uint32_t available = taken == config_.burst ? 0 : rx_.peek(config_.burst - taken, &first);
  if (available == 0) return taken;
  const BurstMemory& burst = *burst_;
  const auto entries = rx_.entries();
  const uint8_t* const memory = umem_->data();
  const uint32_t shift = umem_->chunkShift();
  const uint64_t chunk = umem_->chunkSize();
  // All that the loop writes to: a store to one of them must not have the others read again.
  uint32_t* const frames = frame_.get();
  Resumed* const resumes = resumeAtSettle_.get();
  int32_t* const offset = burst.offset;
  int32_t* const length = burst.length;
  uint32_t count = taken;
  uint64_t bytes = 0;
  {
    FramePool::Changes received(umem_->pool(), FrameState::Fill, FrameState::Rx, config_.index, config_.index);
    for (uint32_t i = 0; i < available; ++i) {
      const xdp_desc desc = entries[first + i];
      const uint64_t frame = desc.addr >> shift;
      if (!received(frame)) continue;
      if ((desc.addr & (chunk - 1)) + desc.len > chunk) {
        umem_->pool().Free(static_cast<uint32_t>(frame));
        continue;
      }
      __builtin_prefetch(memory + desc.addr);
      frames[count] = static_cast<uint32_t>(frame);
      resumes[count].length = -1;
      offset[count] = static_cast<int32_t>(desc.addr);
      length[count] = static_cast<int32_t>(desc.len);
      bytes += desc.len;
      ++count;
    }
  }
  rx_.release(available);
  std::fill(burst.verdict + taken, burst.verdict + count, kDrop);
  std::fill(burst.target + taken, burst.target + count, 0);
  inHand_ = count;
  burst.counters[kCompletionBogus] += available - (count - taken);
  burst.counters[kRxPackets] += count - taken;
  burst.counters[kRxBytes] += static_cast<double>(bytes);
  return count;
}

}  // namespace sluice
