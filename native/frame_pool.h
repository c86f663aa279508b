#pragma once
// Who owns each chunk of a UMEM. No system calls: the kernel's word is checked against it, never the other way round.
//
//   Free ──take──▶ Fill(socket) ──received──▶ Rx(socket) ──┬─────free──────▶ Free
//                                                          ├─transmit─▶ Tx(socket) ──completed──▶ Free
//                                                          └─hold─▶ Held(socket) ──resume──▶ Rx(socket)
//   Fill, Tx of a closed socket that a device may still touch ──▶ Limbo ──▶ Free

#include <stdint.h>

#include <memory>
#include <new>

namespace sluice {

enum class FrameState : uint8_t { Free = 0, Fill = 1, Rx = 2, Tx = 3, Limbo = 4, Held = 5 };

class FramePool {
 public:
  /// Sockets of one UMEM; a frame's state byte is state << 4 | socket.
  static constexpr uint32_t kSockets = 16;
  static constexpr uint32_t kStates = 6;

  /// All frames free. False when there is no memory.
  bool Init(uint32_t count) {
    tag_.reset(new (std::nothrow) uint8_t[count]());
    stack_.reset(new (std::nothrow) uint32_t[count]);
    if (!tag_ || !stack_) return false;
    total_ = count;
    free_ = count;
    // Top of the stack is frame 0. The stack is last-in-first-out so that a warm frame is the next one used.
    for (uint32_t i = 0; i < count; ++i) stack_[i] = count - 1 - i;
    return true;
  }

  uint32_t total() const { return total_; }
  uint32_t free() const { return free_; }
  uint32_t owned(FrameState state, uint32_t socket) const { return owned_[Tag(state, socket)]; }
  uint32_t owned(FrameState state) const {
    uint32_t sum = 0;
    for (uint32_t socket = 0; socket < kSockets; ++socket) sum += owned(state, socket);
    return sum;
  }
  bool is(uint32_t frame, FrameState state, uint32_t socket) const {
    return frame < total_ && tag_[frame] == Tag(state, socket);
  }

  /// Free → Fill. There must be a free frame.
  uint32_t Take(uint32_t socket) {
    const uint32_t frame = stack_[--free_];
    tag_[frame] = Tag(FrameState::Fill, socket);
    ++owned_[tag_[frame]];
    return frame;
  }

  /// Fill(socket) → Rx(socket). False, nothing changed, for a frame that is not there.
  bool Received(uint64_t frame, uint32_t socket) {
    return Change(frame, Tag(FrameState::Fill, socket), Tag(FrameState::Rx, socket));
  }

  /// Rx(from) → Tx(to). False, nothing changed, for a frame that is not there.
  bool Transmit(uint64_t frame, uint32_t from, uint32_t to) {
    return Change(frame, Tag(FrameState::Rx, from), Tag(FrameState::Tx, to));
  }

  /// Rx(socket) → Held(socket). False, nothing changed, for a frame that is not there.
  bool Hold(uint32_t frame, uint32_t socket) {
    return Change(frame, Tag(FrameState::Rx, socket), Tag(FrameState::Held, socket));
  }

  /// Held(socket) → Rx(socket). False, nothing changed, for a frame that is not there.
  bool Resume(uint32_t frame, uint32_t socket) {
    return Change(frame, Tag(FrameState::Held, socket), Tag(FrameState::Rx, socket));
  }

  /// Held(socket) → Free. False, nothing changed, for a frame that is not there.
  bool Release(uint32_t frame, uint32_t socket) {
    if (!is(frame, FrameState::Held, socket)) return false;
    Free(frame);
    return true;
  }

  /// Tx(socket) → Free. False, nothing changed, for a frame that is not there: the address is not to be believed.
  bool Completed(uint64_t frame, uint32_t socket) {
    if (frame >= total_ || tag_[frame] != Tag(FrameState::Tx, socket)) return false;
    Free(static_cast<uint32_t>(frame));
    return true;
  }

  /// Any state but Free → Free.
  void Free(uint32_t frame) {
    --owned_[tag_[frame]];
    tag_[frame] = 0;
    stack_[free_++] = frame;
  }

  /// Fill or Tx → Limbo.
  void Retire(uint32_t frame) {
    --owned_[tag_[frame]];
    tag_[frame] = Tag(FrameState::Limbo, 0);
    ++owned_[tag_[frame]];
  }

 private:
  static constexpr uint8_t Tag(FrameState state, uint32_t socket) {
    return static_cast<uint8_t>(static_cast<uint32_t>(state) << 4 | socket);
  }

  bool Change(uint64_t frame, uint8_t from, uint8_t to) {
    if (frame >= total_ || tag_[frame] != from) return false;
    tag_[frame] = to;
    --owned_[from];
    ++owned_[to];
    return true;
  }

  std::unique_ptr<uint8_t[]> tag_;
  std::unique_ptr<uint32_t[]> stack_;
  uint32_t total_ = 0;
  uint32_t free_ = 0;
  uint32_t owned_[kStates * kSockets] = {};
};

}  // namespace sluice
