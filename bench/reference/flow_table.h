// src/dataplane/balance/flow_table.ts and flow_slots.ts: the same slots, windows and choices of who gives way.

#pragma once

#include "packet.h"

constexpr uint32_t kFlowStride = 16, kFlowShift = 4, kWindow = 24;
constexpr uint32_t kHere = 0xffffff, kAwayShift = 24, kMostAway = 255;
constexpr int32_t kUdpTimeoutMs = 3600 * 1000, kOtherTimeoutMs = 30 * 1000;
constexpr int kSweepMost = 8192, kSweepRoundMs = 8192;

enum FlowWord { kKind, kSrc0, kDst0, kPorts, kBackend, kFlowIncarnation, kState, kLastSeen, kSrc1, kDst1 = 11, kLodgers = 14, kHash };
enum FlowState { kFree, kOther, kUdp, kTcpSyn, kTcpEstablished, kTcpClosing, kUdpSingle, kTcpPickup };

class FlowTable {
 public:
  /** `words`: all zero, `slots` (a power of two) times kFlowStride; `occupied`: a bit a slot, all zero. */
  FlowTable(uint32_t* words, uint32_t* occupied, uint32_t slots)
      : words_(words),
        occupied_(occupied),
        slots_(slots),
        mask_(slots * kFlowStride - 1),
        occupied_mask_(slots / 32 - 1),
        crowded_(slots - (slots >> 7)) {}

  uint32_t count = 0;
  uint32_t changes = 0;
  int64_t evicted_backend = -1;
  bool evicted_alive = false;

  uint32_t* At(int32_t place) { return words_ + place; }

  void Prefetch(uint32_t hash) const { __builtin_prefetch(words_ + Home(hash)); }

  int32_t Find(const Packet& p) const {
    const uint32_t kind = 0x10000 | static_cast<uint32_t>(p.family << 8) | p.protocol;
    const uint32_t home = Home(p.flow_hash);
    if (Is(words_ + home, p, kind)) return static_cast<int32_t>(home);
    const uint32_t lodgers = words_[home + kLodgers];
    const int32_t at = FindIn(home, lodgers & (kHere - 1), kind, p);
    if (at >= 0 || lodgers >> kAwayShift == 0) return at;
    const uint32_t second = SecondHome(p.flow_hash);
    return FindIn(second, words_[second + kLodgers] & kHere, kind, p);
  }

  bool Expired(const uint32_t* w, int32_t now) const {
    return now - static_cast<int32_t>(w[kLastSeen]) > Timeout(w[kState]);
  }

  void Touch(uint32_t* w, const Packet& p, int32_t now) {
    w[kLastSeen] = static_cast<uint32_t>(now);
    if (p.protocol == 6) w[kState] = NextTcpState(w[kState], p.tcp_flags);
    else if (w[kState] == kUdpSingle) w[kState] = kUdp;
  }

  void Insert(const Packet& p, uint32_t backend, uint32_t incarnation, int32_t now) {
    uint32_t* w = words_ + Claim(p.flow_hash, now);
    changes++;
    w[kKind] = 0x10000 | static_cast<uint32_t>(p.family << 8) | p.protocol;
    w[kSrc0] = p.src[0];
    w[kDst0] = p.dst[0];
    w[kPorts] = p.ports;
    if (p.family == 6) {
      memcpy(w + kSrc1, p.src + 1, 12);
      memcpy(w + kDst1, p.dst + 1, 12);
    }
    w[kBackend] = backend;
    w[kFlowIncarnation] = incarnation;
    w[kState] = FirstState(p);
    w[kLastSeen] = static_cast<uint32_t>(now);
  }

  /** Paced by time, as in TypeScript; the bench's sweeper has a clock that stands still, so that both only look at it. */
  void Sweep(int32_t now) {
    const int32_t elapsed = now - swept_ms_;
    swept_ms_ = now;
    if (elapsed == 0 || count == 0) return;
    for (int budget = kSweepMost; budget > 0; budget--) {
      const uint32_t bits = occupied_[cursor_ >> 5] >> (cursor_ & 31);
      if ((bits & 1) && Expired(words_ + cursor_ * kFlowStride, now)) Unexpected("flows that age");
      cursor_ = (cursor_ + 1) & (slots_ - 1);
    }
  }

 private:
  uint32_t Home(uint32_t hash) const { return (hash << kFlowShift) & mask_; }

  uint32_t SecondHome(uint32_t hash) const {
    const uint32_t mixed = (hash ^ (hash >> 15)) * 0x2c1b3c6d;
    return ((mixed ^ (mixed >> 13)) << kFlowShift) & mask_;
  }

  static bool Is(const uint32_t* w, const Packet& p, uint32_t kind) {
    if (w[kKind] != kind || w[kSrc0] != p.src[0] || w[kPorts] != p.ports || w[kDst0] != p.dst[0]) return false;
    return p.family == 4 || (memcmp(w + kSrc1, p.src + 1, 12) == 0 && memcmp(w + kDst1, p.dst + 1, 12) == 0);
  }

  int32_t FindIn(uint32_t home, uint32_t bits, uint32_t kind, const Packet& p) const {
    for (; bits != 0; bits &= bits - 1) {
      const uint32_t at = SlotOf(home, bits);
      if (Is(words_ + at, p, kind)) return static_cast<int32_t>(at);
    }
    return -1;
  }

  static int32_t Timeout(uint32_t state) {
    return state == kUdp || state == kUdpSingle ? kUdpTimeoutMs : kOtherTimeoutMs;
  }

  static uint32_t FirstState(const Packet& p) {
    if (p.protocol != 6) return kUdpSingle;
    if (p.tcp_flags & 5) return kTcpClosing;
    return (p.tcp_flags & 18) == 2 ? kTcpSyn : kTcpPickup;
  }

  static uint32_t NextTcpState(uint32_t state, uint32_t tcp_flags) {
    if (tcp_flags & 5) return kTcpClosing;
    if (state != kTcpSyn && state != kTcpPickup) return state;
    return tcp_flags & 16 ? kTcpEstablished : kTcpSyn;
  }

  /** A slot for a flow with this hash: an empty one, one whose flow timed out or moved, or that of one which gives way. */
  uint32_t Claim(uint32_t hash, int32_t now) {
    evicted_backend = -1;
    evicted_alive = false;
    const int64_t empty = Take(hash);
    if (empty >= 0) {
      count++;
      return static_cast<uint32_t>(empty);
    }
    const uint32_t home = Home(hash);
    const int64_t first = ClaimIn(home, hash, now);
    if (first >= 0) return static_cast<uint32_t>(first);
    const uint32_t longest = static_cast<uint32_t>(proven_);
    if (!MayGoAway(home)) return Evict(longest, home, hash, true);
    const uint32_t second = SecondHome(hash);
    const int64_t other = ClaimIn(second, hash, now);
    if (other >= 0) return static_cast<uint32_t>(other);
    const bool older = Idle(longest, now) >= Idle(static_cast<uint32_t>(proven_), now);
    return older ? Evict(longest, home, hash, true) : Evict(static_cast<uint32_t>(proven_), second, hash, true);
  }

  int64_t ClaimIn(uint32_t window, uint32_t hash, int32_t now) {
    Survey(window, now);
    if (timed_out_ >= 0) return Evict(static_cast<uint32_t>(timed_out_), window, hash, false);
    const int64_t room = count < crowded_ ? MakeRoom(window) : -1;
    if (room >= 0) {
      TakeAt(static_cast<uint32_t>(room), window, hash);
      count++;
      return room;
    }
    // The type is said: of a uint32_t and an int the -1 would become the number of a slot.
    return unproven_ >= 0 ? int64_t{Evict(static_cast<uint32_t>(unproven_), window, hash, true)} : -1;
  }

  /** Looks through a full window: a flow that timed out, and the unproven and the proven flow that were silent longest. */
  void Survey(uint32_t window, int32_t now) {
    int32_t unproven_idle = -1, proven_idle = -1;
    timed_out_ = unproven_ = proven_ = -1;
    uint32_t at = window;
    for (uint32_t i = 0; i < kWindow; i++, at = (at + kFlowStride) & mask_) {
      const uint32_t state = words_[at + kState];
      const int32_t idle = Idle(at, now);
      if (idle > Timeout(state)) {
        timed_out_ = at;
        return;
      }
      if (state == kTcpEstablished || state == kUdp) {
        if (idle > proven_idle || proven_ < 0) proven_idle = idle, proven_ = at;
      } else if (idle > unproven_idle || unproven_ < 0) {
        unproven_idle = idle, unproven_ = at;
      }
    }
  }

  int32_t Idle(uint32_t at, int32_t now) const { return now - static_cast<int32_t>(words_[at + kLastSeen]); }

  uint32_t Evict(uint32_t at, uint32_t window, uint32_t hash, bool alive) {
    evicted_backend = words_[at + kBackend];
    evicted_alive = alive;
    Release(at);
    TakeAt(at, window, hash);
    return at;
  }

  /** The first empty slot of the window that starts at `home`, or -1. */
  int64_t EmptyIn(uint32_t home) const {
    const uint32_t slot = home >> kFlowShift;
    const uint32_t word = slot >> 5, bit = slot & 31;
    uint32_t taken = occupied_[word] >> bit;
    if (bit > 32 - kWindow) taken |= occupied_[(word + 1) & occupied_mask_] << (32 - bit);
    const uint32_t empty = ~taken & kHere;
    return empty == 0 ? -1 : static_cast<int64_t>(SlotOf(home, empty));
  }

  int64_t Take(uint32_t hash) {
    const uint32_t home = Home(hash);
    const int64_t at = EmptyIn(home);
    if (at >= 0) {
      Lodge(static_cast<uint32_t>(at), home, hash);
      return at;
    }
    if (!MayGoAway(home)) return -1;
    const uint32_t second = SecondHome(hash);
    const int64_t away = EmptyIn(second);
    if (away >= 0) LodgeAway(static_cast<uint32_t>(away), home, second, hash);
    return away;
  }

  void TakeAt(uint32_t at, uint32_t window, uint32_t hash) {
    const uint32_t home = Home(hash);
    if (window == home) Lodge(at, home, hash);
    else LodgeAway(at, home, window, hash);
  }

  int64_t MakeRoom(uint32_t window) {
    uint32_t at = window;
    for (uint32_t i = 0; i < kWindow; i++, at = (at + kFlowStride) & mask_) {
      if (Move(at)) return at;
    }
    return -1;
  }

  bool Move(uint32_t from) {
    const uint32_t hash = words_[from + kHash];
    const uint32_t home = Home(hash);
    const bool away = !IsHere(from, home);
    const int64_t to = EmptyIn(away ? home : SecondHome(hash));
    if (to < 0 || (!away && !MayGoAway(home))) return false;
    Release(from);
    memcpy(words_ + to, words_ + from, kLodgers * 4);
    TakeAt(static_cast<uint32_t>(to), away ? home : SecondHome(hash), hash);
    return true;
  }

  void Release(uint32_t at) {
    const uint32_t hash = words_[at + kHash];
    const uint32_t home = Home(hash);
    if (IsHere(at, home)) {
      words_[home + kLodgers] ^= BitOf(at, home);
    } else {
      const uint32_t second = SecondHome(hash);
      words_[second + kLodgers] ^= BitOf(at, second);
      words_[home + kLodgers] -= 1u << kAwayShift;
    }
    Flip(at);
  }

  void Lodge(uint32_t at, uint32_t home, uint32_t hash) {
    words_[home + kLodgers] |= BitOf(at, home);
    words_[at + kHash] = hash;
    Flip(at);
  }

  void LodgeAway(uint32_t at, uint32_t home, uint32_t second, uint32_t hash) {
    Lodge(at, second, hash);
    words_[home + kLodgers] += 1u << kAwayShift;
  }

  bool IsHere(uint32_t at, uint32_t home) const {
    const uint32_t bit = BitOf(at, home);
    return bit != 0 && (words_[home + kLodgers] & bit) != 0;
  }

  bool MayGoAway(uint32_t home) const { return words_[home + kLodgers] >> kAwayShift != kMostAway; }

  uint32_t BitOf(uint32_t at, uint32_t home) const {
    const uint32_t distance = ((at - home) & mask_) >> kFlowShift;
    return distance < kWindow ? 1u << distance : 0;
  }

  void Flip(uint32_t at) {
    const uint32_t slot = at >> kFlowShift;
    occupied_[slot >> 5] ^= 1u << (slot & 31);
  }

  /** The slot of the lowest bit that is set. */
  uint32_t SlotOf(uint32_t home, uint32_t bits) const {
    return (home + (static_cast<uint32_t>(__builtin_ctz(bits)) << kFlowShift)) & mask_;
  }

  uint32_t* words_;
  uint32_t* occupied_;
  uint32_t slots_, mask_, occupied_mask_, crowded_;
  uint32_t cursor_ = 0;
  int32_t swept_ms_ = 0;
  int64_t timed_out_ = -1, unproven_ = -1, proven_ = -1;
};
