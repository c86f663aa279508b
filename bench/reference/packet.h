// A packet, its headers and the checks on them: src/dataplane/packet/parse.ts, balance/hash.ts, filter/sanity.ts.

#pragma once

#include "wire.h"

struct Packet {
  uint8_t* data;
  uint8_t* end;
  uint8_t* hard_start;
  uint8_t* l3;
  uint8_t* l4;
  // Network byte order; of IPv4 only the first word counts.
  uint32_t src[4], dst[4];
  uint32_t l3_length, ports, flow_hash, tos, protocol, flags, tcp_flags;
  int32_t flow;
  int malformed;
  int family;
};

enum Flag : uint32_t { kFragment = 1, kLaterFragment = 2, kOptions = 4, kDontFragment = 8, kHasPorts = 16 };

/** src/dataplane/balance/hash.ts */
struct FlowHash {
  uint32_t k0, k1, k2, m0, m1, m2, m3, m4;

  explicit FlowHash(const int32_t* key) {
    uint32_t state = 0x9e3779b9;
    int position = 0;
    auto next = [&]() {
      state = state + 0x9e3779b9 + static_cast<uint32_t>(key[position++ & 3]);
      uint32_t z = state ^ static_cast<uint32_t>(key[position & 3]);
      z = (z ^ (z >> 16)) * 0x85ebca6b;
      z = (z ^ (z >> 13)) * 0xc2b2ae35;
      return z ^ (z >> 16);
    };
    k0 = next();
    k1 = next();
    k2 = next();
    m0 = next() | 1;
    m1 = next() | 1;
    m2 = next() | 1;
    m3 = next() | 1;
    m4 = next() | 1;
  }

  uint32_t Ipv4(uint32_t src, uint32_t dst, uint32_t ports, uint32_t protocol) const {
    uint32_t a = (src ^ k0) * m0;
    uint32_t b = (ports ^ k1) * m1;
    uint32_t c = ((dst + (protocol << 24)) ^ k2) * m2;
    a = (a ^ (a >> 15)) * m3;
    b = (b ^ (b >> 14)) * m4;
    c ^= c >> 16;
    uint32_t h = (a ^ ((b << 13) | (b >> 19))) + c;
    h = (h ^ (h >> 16)) * m2;
    return h ^ (h >> 15);
  }

  uint32_t Ipv6(const uint32_t* src, const uint32_t* dst, uint32_t ports, uint32_t protocol) const {
    uint32_t a = (src[0] ^ k0) * m0;
    a = ((a ^ (a >> 15)) + src[1]) * m1;
    a = ((a ^ (a >> 14)) + src[2]) * m2;
    a = ((a ^ (a >> 16)) + src[3]) * m3;
    uint32_t b = (dst[0] ^ k1) * m4;
    b = ((b ^ (b >> 15)) + dst[1]) * m0;
    b = ((b ^ (b >> 14)) + dst[2]) * m1;
    b = ((b ^ (b >> 16)) + dst[3]) * m2;
    return Ipv4(a ^ (a >> 15), b ^ (b >> 15), ports, protocol);
  }

  uint32_t Of(const Packet& p) const {
    return p.family == 4 ? Ipv4(p.src[0], p.dst[0], p.ports, p.protocol) : Ipv6(p.src, p.dst, p.ports, p.protocol);
  }
};

/** Returns a DropReason, 0 for a well-formed packet, as the functions below. */
inline int ParseTransport(Packet& p, uint8_t* l4, uint32_t rest) {
  p.l4 = l4;
  switch (p.protocol) {
    case 6: {
      if (rest < 20) return p.malformed = 13;
      const uint32_t word = Load32(l4 + 12);
      const uint32_t bytes = (word >> 26) & 0x3c;
      if (bytes < 20 || bytes > rest) return p.malformed = 14;
      p.ports = Load32(l4);
      p.tcp_flags = (word >> 16) & 0xff;
      p.flags |= kHasPorts;
      return 0;
    }
    case 17: {
      if (rest < 8) return p.malformed = 15;
      const uint32_t length = Load16(l4 + 4);
      if (length < 8 || length > rest) return p.malformed = 16;
      p.ports = Load32(l4);
      p.flags |= kHasPorts;
      return 0;
    }
    default:
      Unexpected("protocols other than TCP and UDP");
  }
}

inline int ParseIpv4(Packet& p, uint8_t* l3, uint32_t available) {
  p.family = 4;
  if (available < 20) return p.malformed = 4;
  const uint32_t first = Load32(l3);
  const uint32_t header = (first >> 22) & 0x3c;
  const uint32_t total = first & 0xffff;
  if (first >> 28 != 4) return p.malformed = 5;
  if (header < 20 || header > available) return p.malformed = 6;
  if (total < header || total > available) return p.malformed = 7;
  const uint32_t fragment = Load32(l3 + 4);
  const uint32_t third = Load32(l3 + 8);
  p.l3_length = total;
  p.tos = (first >> 16) & 0xff;
  p.protocol = (third >> 16) & 0xff;
  p.src[0] = Load32(l3 + 12);
  p.dst[0] = Load32(l3 + 16);
  uint32_t flags = header != 20 ? uint32_t{kOptions} : 0;
  if (fragment & 0x4000) flags |= kDontFragment;
  if (fragment & 0x3fff) Unexpected("fragments");
  p.flags = flags;
  return ParseTransport(p, l3 + header, total - header);
}

inline int ParseIpv6(Packet& p, uint8_t* l3, uint32_t available) {
  p.family = 6;
  if (available < 40) return p.malformed = 8;
  const uint32_t first = Load32(l3);
  const uint32_t second = Load32(l3 + 4);
  const uint32_t payload = second >> 16;
  if (first >> 28 != 6) return p.malformed = 9;
  if (40 + payload > available) return p.malformed = 10;
  p.l3_length = 40 + payload;
  p.tos = (first >> 20) & 0xff;
  p.protocol = (second >> 8) & 0xff;
  for (int i = 0; i < 4; i++) {
    p.src[i] = Load32(l3 + 8 + 4 * i);
    p.dst[i] = Load32(l3 + 24 + 4 * i);
  }
  p.flags = 0;
  // Extension headers are protocols that the transport parser ends the program at.
  return ParseTransport(p, l3 + 40, payload);
}

inline int Parse(Packet& p) {
  p.flags = 0;
  p.l4 = nullptr;
  p.protocol = 0;
  p.ports = 0;
  p.tcp_flags = 0;
  p.malformed = 0;
  if (p.end - p.data < 14) return p.malformed = 1;
  uint8_t* l3 = p.l3 = p.data + 14;
  const uint32_t available = static_cast<uint32_t>(p.end - l3);
  switch (Load16(p.data + 12)) {
    case 0x0800:
      return ParseIpv4(p, l3, available);
    case 0x86dd:
      return ParseIpv6(p, l3, available);
    default:
      Unexpected("frames that are not IP");
  }
}

/** The checks on addresses and, IPv4, on the header. */
inline int SaneAddresses(const Packet& p) {
  if (p.family == 6) {
    if (p.src[0] >> 24 == 0xff) return 30;
    if ((p.src[0] | p.src[1] | p.src[2]) == 0 && p.src[3] >> 1 == 0) return 30;
    return memcmp(p.src, p.dst, 16) == 0 ? 28 : 0;
  }
  const uint32_t w0 = Load32(p.l3), w1 = Load32(p.l3 + 4), w2 = Load32(p.l3 + 8);
  const uint32_t src = p.src[0], dst = p.dst[0];
  const uint32_t sum = (w0 >> 16) + (w0 & 0xffff) + (w1 >> 16) + (w1 & 0xffff) + (w2 >> 16) + (w2 & 0xffff) +
                       (src >> 16) + (src & 0xffff) + (dst >> 16) + (dst & 0xffff);
  if (Fold(sum) != 0xffff) return 26;
  const uint32_t first = src >> 24;
  if (first == 0 || first == 127 || first >= 224) return 30;
  return src == dst ? 28 : 0;
}

/** src/dataplane/filter/sanity.ts, all checks on, all protocols allowed. */
inline int Sane(const Packet& p, const uint8_t* allowed) {
  if (allowed[p.protocol] == 0) return 20;
  if (p.flags & kOptions) Unexpected("IPv4 options");
  if (const int reason = SaneAddresses(p)) return reason;
  if (!(p.flags & kHasPorts)) return 0;
  if (p.protocol == 6) {
    const uint32_t control = p.tcp_flags & 0x17;
    if ((p.tcp_flags & 0x3f) == 0) return 29;
    if ((control & 2) && (control & 5)) return 29;
    if ((control & 1) && !(control & 16)) return 29;
  }
  if (p.ports >> 16 == 0 || (p.ports & 0xffff) == 0) return 31;
  return 0;
}
