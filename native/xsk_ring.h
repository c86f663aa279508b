#pragma once
// The rings of an AF_XDP socket: libxdp's semantics and names (xdp-tools headers/xdp/xsk.h), no system calls.
//
// A ring is a power-of-two array with two free-running uint32 indices, each written by one side only; an entry's place
// is its index & mask, and all arithmetic is modulo 2^32. The side that publishes stores its index with release order,
// the other loads it with acquire order: entries written before a release are seen after the acquire.
//
//   RingProducer: fill and TX (we write entries, the kernel takes them)    reserve → write at() → submit
//   RingConsumer: RX and completion (the kernel writes, we take)           peek → read at() → release
//
// The other side's index is cached, and read again only when the cache does not suffice: that read is a cache miss.

#include <linux/if_xdp.h>
#include <stdint.h>

namespace sluice {

/// Where a ring's parts are in shared memory. Offsets come from XDP_MMAP_OFFSETS; a test points them at its own memory.
struct RingMemory {
  uint32_t* producer = nullptr;
  uint32_t* consumer = nullptr;
  uint32_t* flags = nullptr;
  void* entries = nullptr;
  /// Entries, a power of two.
  uint32_t size = 0;
};

template <class Entry>
class RingProducer {
 public:
  RingProducer() = default;
  explicit RingProducer(const RingMemory& memory)
      : memory_(memory),
        mask_(memory.size - 1),
        cached_prod_(__atomic_load_n(memory.producer, __ATOMIC_RELAXED)),
        cached_cons_(__atomic_load_n(memory.consumer, __ATOMIC_ACQUIRE) + memory.size) {}

  /// Entries that may be reserved; looks at the kernel's index only when fewer than `nb` are known of.
  uint32_t nb_free(uint32_t nb) {
    // cached_cons_ is the consumer plus the ring's size, so that this is one subtraction.
    const uint32_t free_entries = cached_cons_ - cached_prod_;
    if (free_entries >= nb) return free_entries;
    cached_cons_ = __atomic_load_n(memory_.consumer, __ATOMIC_ACQUIRE) + memory_.size;
    return cached_cons_ - cached_prod_;
  }

  /// Takes `nb` entries, all or none: `nb` with the first one's index in `*idx`, or 0.
  uint32_t reserve(uint32_t nb, uint32_t* idx) {
    if (nb_free(nb) < nb) return 0;
    *idx = cached_prod_;
    cached_prod_ += nb;
    return nb;
  }

  Entry& at(uint32_t idx) { return static_cast<Entry*>(memory_.entries)[idx & mask_]; }

  /// What at() needs, for a loop: a copy in registers where the compiler must take the ring itself for changed by each store.
  struct Entries {
    Entry* entries;
    uint32_t mask;
    Entry& operator[](uint32_t idx) const { return entries[idx & mask]; }
  };
  Entries entries() const { return {static_cast<Entry*>(memory_.entries), mask_}; }

  /// Gives the last `nb` reserved entries back, unwritten.
  void cancel(uint32_t nb) { cached_prod_ -= nb; }

  /// Hands `nb` reserved entries to the kernel.
  void submit(uint32_t nb) {
    const uint32_t producer = __atomic_load_n(memory_.producer, __ATOMIC_RELAXED);
    __atomic_store_n(memory_.producer, producer + nb, __ATOMIC_RELEASE);
  }

  bool needs_wakeup() const { return (__atomic_load_n(memory_.flags, __ATOMIC_RELAXED) & XDP_RING_NEED_WAKEUP) != 0; }

  /// Entries submitted that the kernel has not taken yet.
  uint32_t waiting() const { return producer() - consumer(); }

  uint32_t producer() const { return __atomic_load_n(memory_.producer, __ATOMIC_RELAXED); }
  uint32_t consumer() const { return __atomic_load_n(memory_.consumer, __ATOMIC_ACQUIRE); }
  uint32_t size() const { return memory_.size; }

 private:
  RingMemory memory_;
  uint32_t mask_ = 0;
  uint32_t cached_prod_ = 0;
  uint32_t cached_cons_ = 0;
};

template <class Entry>
class RingConsumer {
 public:
  RingConsumer() = default;
  explicit RingConsumer(const RingMemory& memory)
      : memory_(memory),
        mask_(memory.size - 1),
        cached_prod_(__atomic_load_n(memory.producer, __ATOMIC_ACQUIRE)),
        cached_cons_(__atomic_load_n(memory.consumer, __ATOMIC_RELAXED)) {}

  /// Entries that may be taken, at most `nb`; looks at the kernel's index only when none are known of.
  uint32_t nb_avail(uint32_t nb) {
    uint32_t entries = cached_prod_ - cached_cons_;
    if (entries == 0) {
      cached_prod_ = __atomic_load_n(memory_.producer, __ATOMIC_ACQUIRE);
      entries = cached_prod_ - cached_cons_;
    }
    return entries > nb ? nb : entries;
  }

  /// Takes up to `nb` entries: their number, with the first one's index in `*idx`.
  uint32_t peek(uint32_t nb, uint32_t* idx) {
    const uint32_t entries = nb_avail(nb);
    if (entries > 0) {
      *idx = cached_cons_;
      cached_cons_ += entries;
    }
    return entries;
  }

  const Entry& at(uint32_t idx) const { return static_cast<const Entry*>(memory_.entries)[idx & mask_]; }

  /// As RingProducer::Entries.
  struct Entries {
    const Entry* entries;
    uint32_t mask;
    const Entry& operator[](uint32_t idx) const { return entries[idx & mask]; }
  };
  Entries entries() const { return {static_cast<const Entry*>(memory_.entries), mask_}; }

  /// Gives `nb` taken entries back to the kernel; their content may change from now on.
  void release(uint32_t nb) {
    const uint32_t consumer = __atomic_load_n(memory_.consumer, __ATOMIC_RELAXED);
    __atomic_store_n(memory_.consumer, consumer + nb, __ATOMIC_RELEASE);
  }

  uint32_t producer() const { return __atomic_load_n(memory_.producer, __ATOMIC_ACQUIRE); }
  uint32_t consumer() const { return __atomic_load_n(memory_.consumer, __ATOMIC_RELAXED); }
  uint32_t size() const { return memory_.size; }

 private:
  RingMemory memory_;
  uint32_t mask_ = 0;
  uint32_t cached_prod_ = 0;
  uint32_t cached_cons_ = 0;
};

}  // namespace sluice
