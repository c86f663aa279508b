// What stands in front of a packet on its way to a backend: src/dataplane/packet/encap.ts, encap_special.ts, gue.ts, outer_ip.ts.

#pragma once

#include "packet.h"

/** Not the UDP checksum, no outer source with the flow's bits, no chain of hops: the fixtures have none. */
struct Encapsulation {
  const int32_t* backend;
  /** What GUE takes its source port and flow label from. */
  uint32_t flow = 0;

  uint32_t Word(int field) const { return static_cast<uint32_t>(backend[field]); }

  /** Returns a DropReason; 0: `p` has moved to the start of its new headers. */
  int Write(Packet& p) const {
    const bool gue = backend[kEncap] == kGueVariant1;
    const bool to_ipv6 = backend[kFlags] & kIpv6;
    const uint32_t ip = to_ipv6 ? 40 : 20;
    const uint32_t overhead = ip + (gue ? 8 : 0);
    const uint32_t length = overhead + p.l3_length;
    if (length > Word(kMtu)) return 24;
    uint8_t* inner = p.l3;
    uint8_t* l3 = inner - overhead;
    uint8_t* l2 = l3 - 14;
    if (l2 < p.hard_start) return 25;
    Store32(l2, Word(kEthernet));
    Store32(l2 + 4, Word(kEthernet + 1));
    Store32(l2 + 8, Word(kEthernet + 2));
    const uint32_t protocol = gue ? 17 : p.family == 4 ? 4 : 41;
    if (to_ipv6) Ipv6(p, l3, length - 40, protocol, gue ? flow >> 12 : 0);
    else Ipv4(p, l3, length, protocol);
    if (gue) {
      uint8_t* l4 = l3 + ip;
      Store32(l4, (0x8000u | (flow & 0x7fff)) << 16 | Word(kGuePort));
      Store32(l4 + 4, (length - ip) << 16);
    }
    p.data = l2;
    p.end = inner + p.l3_length;
    return 0;
  }

 private:
  void Ipv4(const Packet& p, uint8_t* l3, uint32_t length, uint32_t protocol) const {
    // The sum is of the protocol that packets of the service's own family get.
    const uint32_t sum = Fold(Word(kHeaderSum) + p.tos + length + (protocol == 41 ? 41 - 4 : 0));
    Store16(l3 - 2, 0x0800);
    Store32(l3, 0x45000000 | (p.tos << 16) | length);
    Store32(l3 + 4, 0x4000);
    Store32(l3 + 8, (64u << 24) | (protocol << 16) | (~sum & 0xffff));
    Store32(l3 + 12, Word(kSource));
    Store32(l3 + 16, Word(kAddress));
  }

  void Ipv6(const Packet& p, uint8_t* l3, uint32_t length, uint32_t protocol, uint32_t label) const {
    Store16(l3 - 2, 0x86dd);
    Store32(l3, 0x60000000 | (p.tos << 20) | label);
    Store32(l3 + 4, (length << 16) | (protocol << 8) | 64);
    for (int i = 0; i < 4; i++) {
      Store32(l3 + 8 + 4 * i, Word(kSource + i));
      Store32(l3 + 24 + 4 * i, Word(kAddress + i));
    }
  }
};
