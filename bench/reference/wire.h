// Bytes of a packet, and what both halves of the reference call things: src/dataplane/packet/wire.ts, src/shared/layout.ts.

#pragma once

#include <arpa/inet.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

constexpr int kBurst = 64;
constexpr int kChunks = 4096;
constexpr int kChunkSize = 2048;
constexpr int kHeadroom = 256;

// Words of the tables.
constexpr int kServiceHeader = 4, kServiceKeyStride = 8, kServiceStride = 16, kBackendStride = 32;

enum ServiceField { kServiceFlags, kServiceRing, kListStart, kListLength, kHashFields, kHops, kServerIds, kSourceRoutes, kQuic };
enum ServiceFlag { kFlowTable = 2, kOtherHash = 4 | 8, kSteered = 32 | 64 };
enum BackendField {
  kFlags = 0,
  kIncarnation = 1,
  kService = 2,
  kPort = 3,
  kAddress = 4,
  kSource = 8,
  kEthernet = 12,
  kMtu = 15,
  kHeaderSum = 16,
  kEncap = 17,
  kGuePort = 18,
  kEncapFlags = 19,
  kEntropy3 = 23
};
enum BackendFlag { kActive = 2, kDraining = 4, kIpv6 = 8, kResolved = 16, kSteers = 64, kClamps = 128 };
enum EncapKind { kIpip = 0, kGueVariant1 = 1 };

enum Verdict : int32_t { kUndecided = -1, kAborted, kDrop, kPass, kTx, kRedirect };

[[noreturn]] inline void Unexpected(const char* what) {
  fprintf(stderr, "the fixture has %s, which this reference does not handle\n", what);
  exit(1);
}

inline uint16_t Load16(const uint8_t* p) {
  uint16_t v;
  memcpy(&v, p, 2);
  return ntohs(v);
}
inline uint32_t Load32(const uint8_t* p) {
  uint32_t v;
  memcpy(&v, p, 4);
  return ntohl(v);
}
inline void Store16(uint8_t* p, uint16_t v) {
  v = htons(v);
  memcpy(p, &v, 2);
}
inline void Store32(uint8_t* p, uint32_t v) {
  v = htonl(v);
  memcpy(p, &v, 4);
}

inline uint32_t Fold(uint32_t sum) {
  sum = (sum & 0xffff) + (sum >> 16);
  return (sum & 0xffff) + (sum >> 16);
}
