// The port of the path bench, made of memory: src/dataplane/ports/loop.ts.

#pragma once

#include <sys/mman.h>

#include "wire.h"

/** The fixtures' frames: a constant, as a driver's copy of a packet this short would be. */
constexpr uint32_t kFrameBytes = 64;
/** The clock of the first burst, ms. */
constexpr int32_t kStartMs = 1000;

inline void* Map(size_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) {
    perror("mmap");
    exit(1);
  }
  return p;
}

/** src/dataplane/ports/loop.ts: hands prepared packets out again and again, and takes them back. */
struct LoopPort {
  LoopPort(const uint8_t* prepared, uint32_t count, int32_t clock_step_ms)
      : memory(static_cast<uint8_t*>(Map(static_cast<size_t>(kChunks) * kChunkSize))),
        frames(prepared),
        flows(count),
        chunks(count < kChunks ? count : kChunks),
        clock_step(clock_step_ms) {
    for (uint32_t i = 0; i < chunks; i++) {
      memcpy(memory + static_cast<size_t>(i) * kChunkSize + kHeadroom, frames + static_cast<size_t>(i) * kFrameBytes,
             kFrameBytes);
    }
  }

  uint8_t* memory;
  const uint8_t* frames;
  uint32_t flows, chunks;
  int32_t clock_step;
  uint32_t next = 0, chunk = 0, first = 0, in_hand = 0;
  int32_t now = kStartMs;
  uint8_t* offset[kBurst];
  uint32_t length[kBurst];
  int32_t verdict[kBurst];
  double sent = 0, sent_bytes = 0, dropped = 0, rx = 0, rx_bytes = 0, invalid = 0;
  FILE* capture = nullptr;

  uint32_t Exchange() {
    Settle();
    first = chunk;
    const bool whole = chunks < flows;
    for (uint32_t i = 0; i < kBurst; i++) {
      uint8_t* start = memory + static_cast<size_t>(chunk) * kChunkSize + kHeadroom;
      offset[i] = start;
      length[i] = kFrameBytes;
      verdict[i] = kDrop;
      const uint8_t* from = frames + static_cast<size_t>(next) * kFrameBytes;
      if (whole) memcpy(start, from, kFrameBytes);
      else memcpy(start, from, 16);
      rx_bytes += kFrameBytes;
      if (++next == flows) next = 0;
      if (++chunk == chunks) chunk = 0;
    }
    rx += kBurst;
    now += clock_step;
    return in_hand = kBurst;
  }

  void Settle() {
    uint32_t at = first;
    for (uint32_t i = 0; i < in_hand; i++) {
      const uint8_t* start = memory + static_cast<size_t>(at) * kChunkSize;
      if (++at == chunks) at = 0;
      if (verdict[i] != kTx) {
        dropped++;
        continue;
      }
      const ptrdiff_t within = offset[i] - start;
      if (within < 0 || length[i] < 14 || static_cast<ptrdiff_t>(length[i]) > kChunkSize - within) {
        invalid++;
        continue;
      }
      if (capture) fwrite(offset[i], 1, length[i], capture);
      sent++;
      sent_bytes += length[i];
    }
  }
};
