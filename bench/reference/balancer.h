// Which backend a packet goes to: src/dataplane/balance/forward.ts, choose.ts, send.ts, service_table.ts.

#pragma once

#include "encap.h"
#include "flow_table.h"

struct Counters {
  double rx, rx_bytes, drop, pass, tx, tx_bytes, bursts, hit, miss, insert, evict, expire, flows, reasons[64];
  double service[64][2], backend[4096][4];
};

/** Words as the control plane publishes them: src/shared/layout.ts. */
struct Tables {
  const int32_t *keys, *services, *list, *backends;
  const uint16_t* ring;
  uint32_t ring_size;
};

/** Words ahead of the tables in a file of bench/path/fixture.ts. */
constexpr int kHeaderWords = 22;

/** The tables in such a file. */
inline Tables TablesOf(const int32_t* file) {
  Tables tables;
  tables.keys = file + kHeaderWords;
  tables.services = tables.keys + file[12];
  tables.list = tables.services + file[13];
  tables.backends = tables.list + file[14];
  tables.ring = reinterpret_cast<const uint16_t*>(tables.backends + file[15]);
  tables.ring_size = static_cast<uint32_t>(file[16]);
  return tables;
}

class Balancer {
 public:
  Balancer(const Tables& tables, FlowTable& flows, FlowHash ring_hash, FlowHash flow_hash, Counters& counters)
      : t_(tables), flows_(flows), ring_hash_(ring_hash), flow_hash_(flow_hash), c_(counters) {}

  void Hash(Packet& p) const {
    p.flow_hash = flow_hash_.Of(p);
    flows_.Prefetch(p.flow_hash);
  }

  /** All of a burst, before the first is balanced: their cache misses overlap. */
  void LookUp(Packet* packets, const int32_t* verdict, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
      if (verdict[i] == kUndecided) packets[i].flow = flows_.Find(packets[i]);
    }
    looked_up_at_ = flows_.changes;
  }

  Verdict Balance(Packet& p, int32_t now, int& reason) {
    const int32_t flow = flows_.changes == looked_up_at_ ? p.flow : flows_.Find(p);
    int32_t backend = flow >= 0 ? Known(flow, p, now) : -1;
    if (backend < 0) {
      const int32_t service = Service(p);
      if (service < 0) return kPass;
      backend = Pick(service, p, now);
    }
    return Send(p, backend, reason);
  }

  void Sweep(int32_t now) {
    c_.flows = flows_.count;
    flows_.Sweep(now);
  }

 private:
  int32_t Known(int32_t flow, const Packet& p, int32_t now) {
    uint32_t* w = flows_.At(flow);
    const int32_t backend = static_cast<int32_t>(w[kBackend]);
    const int32_t* b = Record(backend);
    if ((b[kFlags] & (kActive | kDraining)) == 0 || static_cast<uint32_t>(b[kIncarnation]) != w[kFlowIncarnation] ||
        flows_.Expired(w, now))
      Unexpected("flows that move");
    if (p.protocol == 6 && (p.tcp_flags & 18) == 2) Unexpected("SYNs of known flows");
    if (b[kFlags] & (kDraining | kSteers)) Unexpected("backends that drain, or are named in packets");
    c_.hit++;
    flows_.Touch(w, p, now);
    return backend;
  }

  int32_t Pick(int32_t service, const Packet& p, int32_t now) {
    const int32_t* s = t_.services + service * kServiceStride;
    if ((s[kServiceFlags] & (kOtherHash | kSteered)) || s[kSourceRoutes] >= 0 || s[kQuic] >= 0 || s[kHops] != 1 ||
        s[kHashFields] != 31)
      Unexpected("services that are not plain");
    if (s[kServiceRing] != 0) Unexpected("several rings");
    const uint32_t slot = ring_hash_.Of(p) % t_.ring_size;
    const int32_t backend = t_.list[s[kListStart] + t_.ring[slot]];
    c_.miss++;
    if (s[kServiceFlags] & kFlowTable) Remember(p, backend, now);
    return backend;
  }

  void Remember(const Packet& p, int32_t backend, int32_t now) {
    if (p.protocol == 6 && (p.tcp_flags & 4)) return;
    flows_.Insert(p, static_cast<uint32_t>(backend), static_cast<uint32_t>(Record(backend)[kIncarnation]), now);
    c_.insert++;
    c_.backend[backend][2]++;
    c_.backend[backend][3]++;
    if (flows_.evicted_backend < 0) return;
    c_.backend[flows_.evicted_backend][2]--;
    if (flows_.evicted_alive) c_.evict++;
    else c_.expire++;
  }

  Verdict Send(Packet& p, int32_t backend, int& reason) {
    const int32_t* b = Record(backend);
    if (!(b[kFlags] & kResolved)) {
      reason = 23;
      return kDrop;
    }
    if ((b[kFlags] & kClamps) || (b[kEncap] != kIpip && b[kEncap] != kGueVariant1) || b[kEncapFlags] != 0 ||
        b[kEntropy3] != 0)
      Unexpected("other encapsulations");
    const uint32_t bytes = p.l3_length;
    const Encapsulation encapsulation{b, b[kEncap] == kGueVariant1 ? ring_hash_.Of(p) : 0};
    reason = encapsulation.Write(p);
    if (reason != 0) return kDrop;
    c_.backend[backend][0]++;
    c_.backend[backend][1] += bytes;
    c_.service[b[kService]][0]++;
    c_.service[b[kService]][1] += bytes;
    return b[kPort] == 0 ? kTx : kRedirect;
  }

  /** Packets in a row to one service that remembers no flows have it looked up once: src/dataplane/plain_ring.ts. */
  int32_t Service(const Packet& p) {
    if (last_service_ >= 0 && last_family_ == p.family && last_protocol_ == p.protocol && last_port_ == (p.ports & 0xffff) &&
        memcmp(last_dst_, p.dst, p.family == 4 ? 4 : 16) == 0)
      return last_service_;
    const int32_t service = LookUpService(p);
    if (service < 0 || (t_.services[service * kServiceStride + kServiceFlags] & kFlowTable)) return service;
    last_service_ = service;
    last_family_ = p.family;
    last_protocol_ = p.protocol;
    last_port_ = p.ports & 0xffff;
    memcpy(last_dst_, p.dst, sizeof last_dst_);
    return service;
  }

  /** Exact keys with a protocol: the only kind that the fixtures have. */
  int32_t LookUpService(const Packet& p) const {
    const uint32_t family = static_cast<uint32_t>(p.family);
    const uint32_t scope = (family << 24) | ((family == 4 ? 32u : 128u) << 16) | p.protocol;
    const uint32_t port = p.ports & 0xffff;
    uint32_t address[4] = {p.dst[0], 0, 0, 0};
    if (family == 6) memcpy(address, p.dst, 16);
    const uint32_t mask = static_cast<uint32_t>(t_.keys[0]);
    uint32_t slot = KeyHash(address, scope, port) & mask;
    for (int32_t left = t_.keys[1]; left > 0; left--) {
      const int32_t* k = t_.keys + kServiceHeader + slot * kServiceKeyStride;
      if (static_cast<uint32_t>(k[4]) == scope && static_cast<uint32_t>(k[5]) == port && memcmp(k, address, 16) == 0)
        return k[6];
      if (k[6] == -1) return -1;
      slot = (slot + 1) & mask;
    }
    return -1;
  }

  /** src/shared/service_hash.ts */
  static uint32_t KeyHash(const uint32_t* a, uint32_t scope, uint32_t port) {
    uint32_t h = (a[0] ^ (a[1] * 0x9e3779b1u)) * 0x85ebca6bu;
    h = ((h ^ (h >> 15) ^ a[2]) + a[3] * 0xc2b2ae35u) * 0x27d4eb2fu;
    h = ((h ^ (h >> 13) ^ scope) + port * 0x165667b1u) * 0x2c1b3c6du;
    h = (h ^ (h >> 16)) * 0x7feb352du;
    return h ^ (h >> 15);
  }

  const int32_t* Record(int32_t backend) const { return t_.backends + backend * kBackendStride; }

  const Tables t_;
  FlowTable& flows_;
  const FlowHash ring_hash_, flow_hash_;
  Counters& c_;
  uint32_t looked_up_at_ = 0;
  int32_t last_service_ = -1;
  int last_family_ = 0;
  uint32_t last_protocol_ = 0, last_port_ = 0, last_dst_[4] = {};
};
