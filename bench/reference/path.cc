// The work of the TypeScript path, written in C++: the yardstick of `npm run bench`. Same fixture, same tables, same order of
// work, same checks, same counters; a plain program, compiled with -O2 by bench/path/run.ts.
//
//   path FIXTURE MILLISECONDS     prints one line of JSON
//   path FIXTURE --write FILE     writes every packet that leaves, each flow twice
//
// IPv6, VLAN tags, fragments and options take the branches that they take in TypeScript, and end the program: the fixture has none.

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

constexpr uint32_t kMagic = 0x736c7563;
constexpr int kBurst = 64;
constexpr int kChunks = 4096;
constexpr int kChunkSize = 2048;
constexpr int kHeadroom = 256;
constexpr int kSlices = 12;
constexpr uint32_t kWindow = 32;
constexpr int kSweepMost = 8192;
constexpr int32_t kNowMs = 1000;
constexpr int32_t kUdpTimeoutMs = 3600 * 1000;

// Words of the tables: src/shared/layout.ts.
constexpr int kServiceStride = 8, kServiceHeader = 4, kBackendStride = 24, kFlowStride = 16;

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
};

struct Packet {
  uint8_t* data;
  uint8_t* end;
  uint8_t* hard_start;
  uint8_t* l3;
  uint8_t* l4;
  uint32_t l3_length, src, dst, ports, flow_hash, tos, protocol, flags, tcp_flags;
  int32_t flow;
  int malformed;
  int family;
};

enum Flag : uint32_t { kFragment = 1, kLaterFragment = 2, kOptions = 4, kDontFragment = 8, kHasPorts = 16 };
enum Verdict : int32_t { kUndecided = -1, kAborted, kDrop, kPass, kTx, kRedirect };

[[noreturn]] void Unexpected(const char* what) {
  fprintf(stderr, "the fixture has %s, which this reference does not handle\n", what);
  exit(1);
}

/** src/dataplane/packet/parse.ts */
inline int Parse(Packet& p) {
  p.flags = 0;
  p.l4 = nullptr;
  p.protocol = 0;
  p.ports = 0;
  p.tcp_flags = 0;
  p.malformed = 0;
  if (p.end - p.data < 14) return p.malformed = 1;
  if (Load16(p.data + 12) != 0x0800) Unexpected("frames that are not IPv4");
  uint8_t* l3 = p.l3 = p.data + 14;
  const uint32_t available = static_cast<uint32_t>(p.end - l3);
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
  p.src = Load32(l3 + 12);
  p.dst = Load32(l3 + 16);
  uint32_t flags = header != 20 ? uint32_t{kOptions} : 0;
  if (fragment & 0x4000) flags |= kDontFragment;
  if (fragment & 0x3fff) Unexpected("fragments");
  p.flags = flags;
  uint8_t* l4 = p.l4 = l3 + header;
  const uint32_t rest = total - header;
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

inline uint32_t Fold(uint32_t sum) {
  sum = (sum & 0xffff) + (sum >> 16);
  return (sum & 0xffff) + (sum >> 16);
}

/** src/dataplane/filter/sanity.ts, all checks on, all protocols allowed. Returns a DropReason. */
inline int Sane(const Packet& p, const uint8_t* allowed) {
  if (allowed[p.protocol] == 0) return 20;
  if (p.flags & kOptions) Unexpected("IPv4 options");
  const uint32_t w0 = Load32(p.l3), w1 = Load32(p.l3 + 4), w2 = Load32(p.l3 + 8);
  uint32_t sum = (w0 >> 16) + (w0 & 0xffff) + (w1 >> 16) + (w1 & 0xffff) + (w2 >> 16) + (w2 & 0xffff) + (p.src >> 16) +
                 (p.src & 0xffff) + (p.dst >> 16) + (p.dst & 0xffff);
  if (Fold(sum) != 0xffff) return 26;
  const uint32_t first = p.src >> 24;
  if (first == 0 || first == 127 || first >= 224) return 30;
  if (p.src == p.dst) return 28;
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

struct Counters {
  double rx, rx_bytes, drop, pass, tx, tx_bytes, bursts, hit, miss, insert, flows, reasons[64];
  double service[64][2], backend[4096][4];
};

/** src/dataplane/balance/: flow table, service look-up, ring; src/dataplane/packet/encap.ts. */
struct Path {
  const int32_t *keys, *services, *list, *backends;
  const uint16_t* ring;
  uint32_t ring_size;
  FlowHash ring_hash, flow_hash;
  int32_t* flows;
  uint32_t flow_mask;
  uint32_t cursor;
  uint32_t count = 0;
  Counters& c;
  uint32_t changes = 0;
  uint32_t looked_up_at = 0;
  int32_t swept_ms = 0;

  int32_t Find(const Packet& p) const {
    const int32_t kind = 0x10400 | static_cast<int32_t>(p.protocol);
    uint32_t at = (p.flow_hash << 4) & flow_mask;
    for (uint32_t probe = 0; probe < kWindow; probe++) {
      const int32_t* w = flows + at;
      if (w[0] == kind && w[1] == static_cast<int32_t>(p.src) && w[3] == static_cast<int32_t>(p.ports) &&
          w[2] == static_cast<int32_t>(p.dst) && w[6] != 0)
        return static_cast<int32_t>(at);
      if (w[0] == 0) return -1;
      at = (at + kFlowStride) & flow_mask;
    }
    return -1;
  }

  static int32_t Timeout(int32_t state) { return state == 2 ? kUdpTimeoutMs : 30'000; }

  void Insert(const Packet& p, int32_t backend, int32_t incarnation) {
    uint32_t at = (p.flow_hash << 4) & flow_mask;
    uint32_t oldest = at;
    int32_t oldest_idle = -1;
    bool found = false;
    for (uint32_t probe = 0; probe < kWindow; probe++) {
      if (flows[at + 6] == 0) {
        count++;
        found = true;
        break;
      }
      const int32_t idle = kNowMs - flows[at + 7];
      if (idle > Timeout(flows[at + 6])) {
        found = true;
        break;
      }
      if (idle > oldest_idle) {
        oldest_idle = idle;
        oldest = at;
      }
      at = (at + kFlowStride) & flow_mask;
    }
    if (!found) {
      at = oldest;
      c.backend[flows[at + 4]][2]--;
    }
    changes++;
    int32_t* w = flows + at;
    w[0] = 0x10400 | static_cast<int32_t>(p.protocol);
    w[1] = static_cast<int32_t>(p.src);
    w[2] = static_cast<int32_t>(p.dst);
    w[3] = static_cast<int32_t>(p.ports);
    w[4] = backend;
    w[5] = incarnation;
    w[6] = p.protocol == 17 ? 2 : 4;
    w[7] = kNowMs;
  }

  int32_t KeyHash(uint32_t a0, uint32_t scope, uint32_t port) const;

  int32_t Service(const Packet& p) const {
    const uint32_t scope = (4u << 24) | (32u << 16) | p.protocol;
    const uint32_t port = p.ports & 0xffff;
    const uint32_t mask = static_cast<uint32_t>(keys[0]);
    const int32_t probes = keys[1];
    uint32_t slot = static_cast<uint32_t>(KeyHash(p.dst, scope, port)) & mask;
    for (int32_t probe = 0; probe <= probes; probe++) {
      const int32_t* k = keys + kServiceHeader + slot * kServiceStride;
      if (k[6] == -1) return -1;
      if (k[0] == static_cast<int32_t>(p.dst) && k[4] == static_cast<int32_t>(scope) && k[5] == static_cast<int32_t>(port))
        return k[6];
      slot = (slot + 1) & mask;
    }
    return -1;
  }

  /** All of a burst, before the first is balanced: their cache misses overlap. */
  void LookUp(Packet* packets, const int32_t* verdict, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
      if (verdict[i] == kUndecided) packets[i].flow = Find(packets[i]);
    }
    looked_up_at = changes;
  }

  Verdict Balance(Packet& p, int& reason) {
    int32_t backend = -1;
    const int32_t flow = changes == looked_up_at ? p.flow : Find(p);
    if (flow >= 0) {
      int32_t* w = flows + flow;
      const int32_t* b = backends + w[4] * kBackendStride;
      if ((b[0] & 6) == 0 || b[1] != w[5] || kNowMs - w[7] > Timeout(w[6])) Unexpected("flows that move");
      c.hit++;
      w[7] = kNowMs;
      backend = w[4];
    } else {
      const int32_t service = Service(p);
      if (service < 0) return kPass;
      const int32_t* s = services + service * kServiceStride;
      const uint32_t hash = ring_hash.Ipv4(p.src, p.dst, p.ports, p.protocol);
      backend = list[s[2] + ring[hash % ring_size]];
      c.miss++;
      if (s[0] & 2) {
        Insert(p, backend, backends[backend * kBackendStride + 1]);
        c.insert++;
        c.backend[backend][2]++;
        c.backend[backend][3]++;
      }
    }
    const int32_t* b = backends + backend * kBackendStride;
    if (!(b[0] & 16)) {
      reason = 23;
      return kDrop;
    }
    const uint32_t bytes = p.l3_length;
    const uint32_t outer_length = bytes + 20;
    if (outer_length > static_cast<uint32_t>(b[15])) {
      reason = 24;
      return kDrop;
    }
    uint8_t* l3 = p.l3 - 20;
    uint8_t* l2 = l3 - 14;
    if (l2 < p.hard_start) {
      reason = 25;
      return kDrop;
    }
    Store32(l2, static_cast<uint32_t>(b[12]));
    Store32(l2 + 4, static_cast<uint32_t>(b[13]));
    Store32(l2 + 8, static_cast<uint32_t>(b[14]));
    Store16(l2 + 12, 0x0800);
    const uint32_t sum = Fold(static_cast<uint32_t>(b[16]) + p.tos + outer_length);
    Store32(l3, 0x45000000 | (p.tos << 16) | outer_length);
    Store32(l3 + 4, 0x4000);
    Store32(l3 + 8, (64u << 24) | (4u << 16) | (~sum & 0xffff));
    Store32(l3 + 12, static_cast<uint32_t>(b[8]));
    Store32(l3 + 16, static_cast<uint32_t>(b[4]));
    p.data = l2;
    p.end = p.l3 + bytes;
    c.backend[backend][0]++;
    c.backend[backend][1] += bytes;
    c.service[b[2]][0]++;
    c.service[b[2]][1] += bytes;
    return b[3] == 0 ? kTx : kRedirect;
  }

  /** Paced by time, as in TypeScript; the bench's clock stands still, so that both only look at it. */
  void Sweep(int32_t now) {
    const int32_t elapsed = now - swept_ms;
    swept_ms = now;
    c.flows = count;
    if (elapsed == 0 || count == 0) return;
    uint32_t at = cursor;
    for (int budget = kSweepMost; budget > 0; budget--) {
      int32_t* w = flows + at;
      if (w[0] != 0) {
        if (w[6] != 0 && kNowMs - w[7] > Timeout(w[6])) Unexpected("flows that age");
        if (w[6] == 0 && flows[(at + kFlowStride) & flow_mask] == 0) w[0] = 0;
      }
      at = (at - kFlowStride) & flow_mask;
    }
    cursor = at;
  }
};

/** src/shared/service_hash.ts, with the high words of an IPv4 address zero. */
inline int32_t Path::KeyHash(uint32_t a0, uint32_t scope, uint32_t port) const {
  uint32_t h = a0 * 0x85ebca6bu;
  h = (h ^ (h >> 15)) * 0x27d4eb2fu;
  h = ((h ^ (h >> 13) ^ scope) + port * 0x165667b1u) * 0x2c1b3c6du;
  h = (h ^ (h >> 16)) * 0x7feb352du;
  return static_cast<int32_t>(h ^ (h >> 15));
}

/** src/dataplane/ports/loop.ts: hands prepared packets out again and again, and takes them back. */
struct LoopPort {
  uint8_t* memory;
  const uint8_t* frames;
  uint32_t flows, frame_bytes, chunks;
  uint32_t next = 0, chunk = 0, first = 0, in_hand = 0;
  uint8_t* offset[kBurst];
  uint32_t length[kBurst];
  int32_t verdict[kBurst];
  double sent = 0, sent_bytes = 0, dropped = 0, rx = 0, rx_bytes = 0, invalid = 0;
  FILE* capture = nullptr;

  uint32_t Exchange() {
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
    first = chunk;
    const bool whole = chunks < flows;
    for (uint32_t i = 0; i < kBurst; i++) {
      uint8_t* start = memory + static_cast<size_t>(chunk) * kChunkSize + kHeadroom;
      offset[i] = start;
      length[i] = frame_bytes;
      verdict[i] = kDrop;
      const uint8_t* from = frames + static_cast<size_t>(next) * frame_bytes;
      if (whole) memcpy(start, from, 64);
      else memcpy(start, from, 16);
      rx_bytes += frame_bytes;
      if (++next == flows) next = 0;
      if (++chunk == chunks) chunk = 0;
    }
    rx += kBurst;
    return in_hand = kBurst;
  }
};

/** src/dataplane/poll.ts: a loop a step. Has no need of a short way (plain.ts): a struct's fields cost a compiler nothing. */
void PollOnce(LoopPort& port, Path& path, Packet* packets, const uint8_t* allowed) {
  const uint32_t n = port.Exchange();
  Counters& c = path.c;
  for (uint32_t i = 0; i < n; i++) {
    Packet& p = packets[i];
    p.data = port.offset[i];
    p.end = p.data + port.length[i];
    p.hard_start = port.memory + ((p.data - port.memory) & ~static_cast<ptrdiff_t>(kChunkSize - 1));
    c.rx_bytes += port.length[i];
    if (Parse(p) == 0) p.flow_hash = path.flow_hash.Ipv4(p.src, p.dst, p.ports, p.protocol);
  }
  for (uint32_t i = 0; i < n; i++) {
    Packet& p = packets[i];
    int reason = p.malformed;
    if (reason == 0) reason = Sane(p, allowed);
    port.verdict[i] = reason == 0 ? kUndecided : kDrop;
    if (reason != 0) c.reasons[reason]++;
  }
  path.LookUp(packets, port.verdict, n);
  for (uint32_t i = 0; i < n; i++) {
    Packet& p = packets[i];
    int reason = 0;
    int32_t verdict = port.verdict[i];
    if (verdict == kUndecided) {
      verdict = path.Balance(p, reason);
      port.verdict[i] = verdict;
      if (verdict == kDrop) c.reasons[reason]++;
    }
    if (verdict == kTx) {
      c.tx++;
      c.tx_bytes += static_cast<double>(p.end - p.data);
    } else if (verdict == kPass) {
      c.pass++;
    } else {
      c.drop++;
    }
    port.offset[i] = p.data;
    port.length[i] = static_cast<uint32_t>(p.end - p.data);
  }
  c.rx += n;
  c.bursts++;
}

double CpuNs() {
  timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

void* Map(size_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) {
    perror("mmap");
    exit(1);
  }
  return p;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: path FIXTURE MILLISECONDS | path FIXTURE --write FILE\n");
    return 2;
  }
  const int fd = open(argv[1], O_RDONLY);
  struct stat st;
  if (fd < 0 || fstat(fd, &st) != 0) {
    perror(argv[1]);
    return 1;
  }
  const auto* file = static_cast<const int32_t*>(mmap(nullptr, st.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0));
  if (file == MAP_FAILED || static_cast<uint32_t>(file[0]) != kMagic || file[2] != 64) {
    fprintf(stderr, "%s is no fixture\n", argv[1]);
    return 1;
  }
  const uint32_t flows = file[1], flow_slots = file[3];
  const int32_t* at = file + 17;
  const int32_t* keys = at;
  const int32_t* services = keys + file[12];
  const int32_t* list = services + file[13];
  const int32_t* backends = list + file[14];
  const auto* ring = reinterpret_cast<const uint16_t*>(backends + file[15]);
  const uint32_t ring_size = file[16];
  const auto* frames = reinterpret_cast<const uint8_t*>(ring) + ((ring_size + 1) & ~1u) * 2;

  static Counters counters;
  static Packet packets[kBurst];
  static uint8_t allowed[256];
  memset(allowed, 1, sizeof allowed);
  const uint32_t chunks = std::min<uint32_t>(kChunks, flows);
  LoopPort port{static_cast<uint8_t*>(Map(static_cast<size_t>(kChunks) * kChunkSize)), frames, flows, 64, chunks};
  for (uint32_t i = 0; i < chunks; i++) {
    memcpy(port.memory + static_cast<size_t>(i) * kChunkSize + kHeadroom, frames + static_cast<size_t>(i) * 64, 64);
  }
  Path path{keys,
            services,
            list,
            backends,
            ring,
            ring_size,
            FlowHash(file + 4),
            FlowHash(file + 8),
            static_cast<int32_t*>(Map(static_cast<size_t>(flow_slots) * kFlowStride * 4)),
            flow_slots * kFlowStride - 1,
            flow_slots * kFlowStride - kFlowStride,
            0,
            counters};

  if (argc == 4) {
    FILE* out = fopen(argv[3], "w");
    port.capture = out;
    for (uint32_t done = 0; done <= 2 * flows; done += kBurst) PollOnce(port, path, packets, allowed);
    fclose(out);
    return 0;
  }
  auto run = [&](int bursts) {
    const double start = CpuNs();
    for (int i = 0; i < bursts; i++) {
      PollOnce(port, path, packets, allowed);
      path.Sweep(kNowMs);
    }
    return (CpuNs() - start) / (static_cast<double>(bursts) * kBurst);
  };
  run(static_cast<int>(flows / kBurst) + 1);
  const double per_burst = run(2000) * kBurst;
  const int bursts = std::max(100, static_cast<int>(atof(argv[2]) * 1e6 / kSlices / per_burst));
  run(bursts);
  std::vector<double> slices;
  for (int i = 0; i < kSlices; i++) slices.push_back(run(bursts));
  std::sort(slices.begin(), slices.end());
  printf("{\"ns\":%.3f,\"best\":%.3f,\"hits\":%.0f,\"misses\":%.0f,\"flows\":%u}\n", slices[kSlices / 2], slices[0],
         counters.hit, counters.miss, path.count);
}
