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

  /// `count` frames, of which there must be as many free: Free → `state`, Fill or Rx, of the socket. Where their numbers are until the pool next
  /// changes, the warmest last.
  const uint32_t* Take(uint32_t count, FrameState state, uint32_t socket) {
    const uint8_t to = Tag(state, socket);
    free_ -= count;
    owned_[to] += count;
    const uint32_t* taken = stack_.get() + free_;
    uint8_t* const tag = tag_.get();
    for (uint32_t i = 0; i < count; ++i) tag[taken[i]] = to;
    return taken;
  }

  /// One change of state for many frames of a burst; owned() knows of it when this is destroyed. Frame by frame it would be two counters in memory, each update
  /// waiting for the one before.
  class Changes {
   public:
    Changes(FramePool& pool, FrameState from, FrameState to, uint32_t fromSocket, uint32_t toSocket)
        : pool_(pool), tag_(pool.tag_.get()), total_(pool.total_), from_(Tag(from, fromSocket)), to_(Tag(to, toSocket)) {}
    Changes(const Changes&) = delete;
    Changes& operator=(const Changes&) = delete;
    ~Changes() {
      pool_.owned_[from_] -= count_;
      pool_.owned_[to_] += count_;
    }
    /// False, nothing changed, for a frame that is not there.
    bool operator()(uint64_t frame) {
      if (frame >= total_ || tag_[frame] != from_) return false;
      tag_[frame] = to_;
      ++count_;
      return true;
    }

   private:
    FramePool& pool_;
    uint8_t* const tag_;
    const uint32_t total_;
    const uint8_t from_, to_;
    uint32_t count_ = 0;
  };

  /// As Changes, to Free; free() does not know of it before either, and no other frame may come or go meanwhile.
  class Returns {
   public:
    Returns(FramePool& pool, FrameState from, uint32_t socket)
        : pool_(pool),
          tag_(pool.tag_.get()),
          top_(pool.stack_.get() + pool.free_),
          total_(pool.total_),
          from_(Tag(from, socket)) {}
    Returns(const Returns&) = delete;
    Returns& operator=(const Returns&) = delete;
    ~Returns() {
      const uint32_t count = this->count();
      pool_.owned_[from_] -= count;
      pool_.free_ += count;
    }
    /// False, nothing changed, for a frame that is not there.
    bool operator()(uint64_t frame) {
      if (frame >= total_ || tag_[frame] != from_) return false;
      tag_[frame] = 0;
      *top_++ = static_cast<uint32_t>(frame);
      return true;
    }
    /// Frames returned so far.
    uint32_t count() const { return static_cast<uint32_t>(top_ - (pool_.stack_.get() + pool_.free_)); }

   private:
    FramePool& pool_;
    uint8_t* const tag_;
    uint32_t* top_;
    const uint32_t total_;
    const uint8_t from_;
  };

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
