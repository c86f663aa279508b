// A set of IPv4 hosts that drops by source: src/shared/sets/host_view.ts, src/dataplane/filter/packet_sets.ts.

#pragma once

#include "packet.h"

constexpr uint32_t kSetCheck = 0x1000000, kSetEntryMask = 0xffffff, kSetTagShift = 25;

class HostSet {
 public:
  /** Words as the control plane publishes them; `slots` a power of two. */
  HostSet(const int32_t* slots, uint32_t slot_count, const int32_t* records, uint32_t seed, uint32_t mask, double* matches)
      : slots_(reinterpret_cast<const uint32_t*>(slots)),
        records_(reinterpret_cast<const uint32_t*>(records)),
        slot_mask_(slot_count - 1),
        seed_(seed),
        mask_(mask),
        matches_(matches) {}

  /** Whether it has the packet's source; counts it then. */
  bool Has(const Packet& p) {
    if (LookUp(p.src[0], 0) <= 0) return false;
    matches_[0]++;
    matches_[1] += p.l3_length;
    return true;
  }

 private:
  int32_t LookUp(uint32_t address, uint32_t now) const {
    const uint32_t key = address & mask_;
    const uint32_t scope = 32u << 24;
    const uint32_t hash = Hash(key, scope);
    for (uint32_t at = hash & slot_mask_;; at = (at + 1) & slot_mask_) {
      const uint32_t slot = slots_[at];
      if (slot == 0) return -1;
      if ((slot ^ hash) >> kSetTagShift != 0) continue;
      const uint32_t* record = records_ + (slot & kSetEntryMask) * 4;
      if (record[0] != key) continue;
      if (slot & kSetCheck) {
        if (record[1] != scope) continue;
        if (record[2] != 0 && record[2] >> 1 <= now) return -1;
      }
      return static_cast<int32_t>(slot & kSetEntryMask);
    }
  }

  uint32_t Hash(uint32_t key, uint32_t scope) const {
    uint32_t h = (key ^ seed_) * 0x85ebca6b;
    h = (h ^ (h >> 15) ^ scope) * 0xc2b2ae35;
    return h ^ (h >> 15);
  }

  const uint32_t *slots_, *records_;
  const uint32_t slot_mask_, seed_, mask_;
  double* matches_;
};
