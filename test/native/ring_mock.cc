// The rings and the frame pool without a kernel: both ends of a ring over memory of our own. Compiled and run by
// ring.test.ts, once with the address and undefined-behaviour sanitizers, once (argument "threads") with the thread
// sanitizer. Prints what it checked; exits 1 at the first thing that is not so.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <random>
#include <thread>
#include <vector>

#include "../../native/frame_pool.h"
#include "../../native/xsk_ring.h"

using namespace sluice;

#define CHECK(what)                                                      \
  do {                                                                   \
    if (!(what)) {                                                       \
      printf("line %d: not so: %s\n", __LINE__, #what);                  \
      exit(1);                                                           \
    }                                                                    \
  } while (0)

template <class Entry>
struct FakeRing {
  uint32_t producer, consumer, flags = 0;
  std::vector<Entry> entries;
  FakeRing(uint32_t size, uint32_t start) : producer(start), consumer(start), entries(size) {}
  RingMemory memory() {
    return {&producer, &consumer, &flags, entries.data(), static_cast<uint32_t>(entries.size())};
  }
};

static void LimitsAt(uint32_t start) {
  FakeRing<uint64_t> fake(8, start);
  RingProducer<uint64_t> producer(fake.memory());
  uint32_t at = 0;
  CHECK(producer.nb_free(1) == 8);
  CHECK(producer.reserve(9, &at) == 0);  // all or none
  CHECK(producer.reserve(8, &at) == 8 && at == start);
  CHECK(producer.reserve(1, &at) == 0);
  CHECK(fake.producer == start);  // nothing is the kernel's before submit
  producer.submit(8);
  CHECK(fake.producer == start + 8 && producer.waiting() == 8);
  fake.consumer += 3;
  CHECK(producer.reserve(4, &at) == 0);
  CHECK(producer.reserve(3, &at) == 3 && at == start + 8);
  producer.cancel(2);
  CHECK(producer.reserve(3, &at) == 0);
  CHECK(producer.reserve(2, &at) == 2 && at == start + 9);

  FakeRing<xdp_desc> other(8, start);
  RingConsumer<xdp_desc> consumer(other.memory());
  CHECK(consumer.peek(4, &at) == 0);
  other.producer += 6;
  CHECK(consumer.peek(4, &at) == 4 && at == start);
  CHECK(other.consumer == start);  // nothing is given back before release
  // The rest of what is known; more only when that is used up, as in libxdp.
  other.producer += 2;
  CHECK(consumer.peek(4, &at) == 2 && at == start + 4);
  consumer.release(6);
  CHECK(other.consumer == start + 6);
  CHECK(consumer.peek(4, &at) == 2 && at == start + 6);
  consumer.release(2);
  CHECK(consumer.peek(1, &at) == 0);

  CHECK(!producer.needs_wakeup());
  fake.flags = XDP_RING_NEED_WAKEUP;
  CHECK(producer.needs_wakeup());
}

static void RandomWalkAcrossTheWrap(unsigned seed) {
  FakeRing<uint64_t> fake(64, 0xffffffffu - 5000);
  RingProducer<uint64_t> producer(fake.memory());
  RingConsumer<uint64_t> consumer(fake.memory());
  std::mt19937 random(seed);
  uint64_t written = 0, read = 0;
  bool wrapped = false;
  for (int step = 0; step < 200000; ++step) {
    uint32_t at = 0;
    if (random() & 1) {
      const uint32_t count = random() % 70;
      const uint64_t room = 64 - (written - read);
      const uint32_t got = producer.reserve(count, &at);
      CHECK(got == (count <= room ? count : 0));
      for (uint32_t i = 0; i < got; ++i) producer.at(at + i) = written++;
      producer.submit(got);
    } else {
      const uint32_t count = random() % 70;
      const uint32_t got = consumer.peek(count, &at);
      CHECK(got <= count && got <= written - read);
      CHECK(got > 0 || count == 0 || written == read);
      for (uint32_t i = 0; i < got; ++i) CHECK(consumer.at(at + i) == read++);
      consumer.release(got);
    }
    CHECK(fake.producer - fake.consumer == written - read);
    wrapped = wrapped || fake.producer < 1000;
  }
  CHECK(wrapped);
}

/// The kernel's side in another thread. Entries are plain memory: only acquire and release order them.
static void TwoThreads() {
  constexpr uint64_t kCount = 300000;
  FakeRing<uint64_t> fake(256, 0xffffff00u);
  std::thread kernel([&] {
    RingConsumer<uint64_t> consumer(fake.memory());
    for (uint64_t next = 0; next < kCount;) {
      uint32_t at = 0;
      const uint32_t got = consumer.peek(32, &at);
      for (uint32_t i = 0; i < got; ++i) CHECK(consumer.at(at + i) == next++);
      if (got) consumer.release(got);
      else std::this_thread::yield();
    }
  });
  RingProducer<uint64_t> producer(fake.memory());
  for (uint64_t next = 0; next < kCount;) {
    uint32_t at = 0;
    const uint32_t want = static_cast<uint32_t>(std::min<uint64_t>(17, kCount - next));
    if (producer.reserve(want, &at) == 0) {
      std::this_thread::yield();
      continue;
    }
    for (uint32_t i = 0; i < want; ++i) producer.at(at + i) = next++;
    producer.submit(want);
  }
  kernel.join();
}

static uint32_t Sum(const FramePool& pool) {
  uint32_t sum = pool.free();
  for (int state = 1; state < static_cast<int>(FramePool::kStates); ++state) sum += pool.owned(static_cast<FrameState>(state));
  return sum;
}

static void PoolBelievesNobody(unsigned seed) {
  constexpr uint32_t kFrames = 200;
  FramePool pool;
  CHECK(pool.Init(kFrames) && pool.free() == kFrames);
  std::mt19937_64 random(seed);
  // A second account of who owns what, kept in the simplest way.
  std::vector<std::pair<FrameState, uint32_t>> model(kFrames, {FrameState::Free, 0});
  const auto is = [&](uint64_t frame, FrameState state, uint32_t socket) {
    return frame < kFrames && model[frame] == std::make_pair(state, socket);
  };
  for (int step = 0; step < 300000; ++step) {
    uint64_t frame = random() % (kFrames + 20);
    if (random() % 50 == 0) frame = random();       // any 64-bit number
    if (random() % 500 == 0) frame = ~uint64_t{0};  // what the kernel gives back for a bad descriptor
    const uint32_t socket = random() % 16, other = random() % 16;
    switch (random() % 9) {
      case 0:
        if (const uint32_t count = std::min<uint32_t>(pool.free(), random() % 4)) {
          const FrameState state = random() % 4 ? FrameState::Fill : FrameState::Rx;
          const uint32_t* taken = pool.Take(count, state, socket);
          for (uint32_t i = 0; i < count; ++i) {
            CHECK(is(taken[i], FrameState::Free, 0));
            model[taken[i]] = {state, socket};
          }
        }
        break;
      case 1:
      case 2: {
        // Of one socket, as when received, or from one to another, as when sent: some of a burst, and what is no frame of theirs.
        const bool sent = random() % 2;
        const FrameState from = sent ? FrameState::Rx : FrameState::Fill, to = sent ? FrameState::Tx : FrameState::Rx;
        const uint32_t toSocket = sent ? other : socket;
        FramePool::Changes change(pool, from, to, socket, toSocket);
        for (int i = 0; i < 8; ++i, frame = random() % (kFrames + 20)) {
          const bool expected = is(frame, from, socket);
          CHECK(change(frame) == expected);
          if (expected) model[frame] = {to, toSocket};
        }
        break;
      }
      case 3: {
        FramePool::Returns completed(pool, FrameState::Tx, socket);
        uint32_t count = 0;
        for (int i = 0; i < 8; ++i, frame = random() % (kFrames + 20)) {
          const bool expected = is(frame, FrameState::Tx, socket);
          CHECK(completed(frame) == expected);
          if (expected) model[frame] = {FrameState::Free, 0};
          count += expected;
        }
        CHECK(completed.count() == count);
        break;
      }
      case 4:
        if (frame < kFrames && model[frame].first == FrameState::Rx) {
          pool.Free(static_cast<uint32_t>(frame));
          model[frame] = {FrameState::Free, 0};
        }
        break;
      case 5: {
        const auto number = static_cast<uint32_t>(frame);
        const bool expected = is(number, FrameState::Rx, socket);
        CHECK(pool.Hold(number, socket) == expected);
        if (expected) model[number] = {FrameState::Held, socket};
        break;
      }
      case 6: {
        const auto number = static_cast<uint32_t>(frame);
        const bool expected = is(number, FrameState::Held, socket);
        CHECK(pool.Resume(number, socket) == expected);
        if (expected) model[number] = {FrameState::Rx, socket};
        break;
      }
      case 7: {
        const auto number = static_cast<uint32_t>(frame);
        const bool expected = is(number, FrameState::Held, socket);
        CHECK(pool.Release(number, socket) == expected);
        if (expected) model[number] = {FrameState::Free, 0};
        break;
      }
      default:
        if (frame < kFrames && model[frame].first == FrameState::Fill && random() % 4 == 0) {
          pool.Retire(static_cast<uint32_t>(frame));
          model[frame] = {FrameState::Limbo, 0};
        } else if (frame < kFrames && model[frame].first == FrameState::Limbo) {
          pool.Free(static_cast<uint32_t>(frame));
          model[frame] = {FrameState::Free, 0};
        }
    }
    if (step % 64 == 0) {
      CHECK(Sum(pool) == kFrames);
      uint32_t free = 0;
      for (const auto& entry : model) free += entry.first == FrameState::Free;
      CHECK(pool.free() == free);
    }
  }
}

int main(int argc, char** argv) {
  if (argc > 1 && strcmp(argv[1], "threads") == 0) {
    TwoThreads();
    printf("two threads agree\n");
    return 0;
  }
  const unsigned seed = argc > 1 ? static_cast<unsigned>(atoi(argv[1])) : 1;
  for (const uint32_t start : {0u, 5u, 0x7ffffffcu, 0xfffffff8u, 0xfffffffcu, 0xffffffffu}) LimitsAt(start);
  RandomWalkAcrossTheWrap(seed);
  PoolBelievesNobody(seed);
  printf("limits, wrap and pool hold\n");
  return 0;
}
