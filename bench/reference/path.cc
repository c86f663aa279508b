// The work of the TypeScript path, written in C++: the yardstick of `npm run bench`. Same fixture, same tables, same order of
// work, same checks, same counters; a plain program, compiled with -O2 by bench/path/sides.ts.
//
//   path FIXTURE MILLISECONDS             prints one line of JSON
//   path FIXTURE --write FILE PACKETS     writes that many packets as they leave
//
// VLAN tags, fragments, options, other protocols and whatever else the fixtures do not have end the program, at the branches that they take in
// TypeScript.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "balancer.h"

namespace {

constexpr uint32_t kMagic = 0x736c7563;
constexpr int kHeaderWords = 22;
constexpr int kSlices = 12;
constexpr int32_t kStartMs = 1000;
/** The fixtures' frames: a constant, as a driver's copy of a packet this short would be. */
constexpr uint32_t kFrameBytes = 64;

/** src/dataplane/ports/loop.ts: hands prepared packets out again and again, and takes them back. */
struct LoopPort {
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

/** src/dataplane/poll.ts: a loop a step. Has no need of a short way (plain.ts): a struct's fields cost a compiler nothing. */
void PollOnce(LoopPort& port, Balancer& balancer, Counters& c, Packet* packets, const uint8_t* allowed) {
  const uint32_t n = port.Exchange();
  for (uint32_t i = 0; i < n; i++) {
    Packet& p = packets[i];
    p.data = port.offset[i];
    p.end = p.data + port.length[i];
    p.hard_start = port.memory + ((p.data - port.memory) & ~static_cast<ptrdiff_t>(kChunkSize - 1));
    c.rx_bytes += port.length[i];
    if (Parse(p) == 0) balancer.Hash(p);
  }
  for (uint32_t i = 0; i < n; i++) {
    Packet& p = packets[i];
    int reason = p.malformed;
    if (reason == 0) reason = Sane(p, allowed);
    port.verdict[i] = reason == 0 ? kUndecided : kDrop;
    if (reason != 0) c.reasons[reason]++;
  }
  balancer.LookUp(packets, port.verdict, n);
  for (uint32_t i = 0; i < n; i++) {
    Packet& p = packets[i];
    int reason = 0;
    int32_t verdict = port.verdict[i];
    if (verdict == kUndecided) {
      verdict = balancer.Balance(p, port.now, reason);
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

const int32_t* ReadFixture(const char* name) {
  const int fd = open(name, O_RDONLY);
  struct stat st;
  if (fd < 0 || fstat(fd, &st) != 0) {
    perror(name);
    exit(1);
  }
  const auto* file = static_cast<const int32_t*>(mmap(nullptr, st.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0));
  if (file == MAP_FAILED || static_cast<uint32_t>(file[0]) != kMagic || static_cast<uint32_t>(file[2]) != kFrameBytes) {
    fprintf(stderr, "%s is no fixture\n", name);
    exit(1);
  }
  return file;
}

/** Medians of slices, as bench/path/child.ts. `run` does a number of bursts and returns ns a packet. */
template <typename Run>
std::vector<double> Measure(Run run, uint32_t flows, double milliseconds) {
  run(static_cast<int>(flows / kBurst) + 1);
  const double per_burst = run(2000) * kBurst;
  const int bursts = std::max(100, static_cast<int>(milliseconds * 1e6 / kSlices / per_burst));
  run(bursts);
  std::vector<double> slices;
  for (int i = 0; i < kSlices; i++) slices.push_back(run(bursts));
  std::sort(slices.begin(), slices.end());
  return slices;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3 && argc != 5) {
    fprintf(stderr, "usage: path FIXTURE MILLISECONDS | path FIXTURE --write FILE PACKETS\n");
    return 2;
  }
  const int32_t* file = ReadFixture(argv[1]);
  const uint32_t flows = file[1], flow_slots = file[3];
  Tables tables;
  tables.keys = file + kHeaderWords;
  tables.services = tables.keys + file[12];
  tables.list = tables.services + file[13];
  tables.backends = tables.list + file[14];
  tables.ring = reinterpret_cast<const uint16_t*>(tables.backends + file[15]);
  tables.ring_size = file[16];
  const auto* frames = reinterpret_cast<const uint8_t*>(tables.ring) + ((tables.ring_size + 1) & ~1u) * 2;

  static Counters counters;
  static Packet packets[kBurst];
  static uint8_t allowed[256];
  memset(allowed, 1, sizeof allowed);
  const uint32_t chunks = std::min<uint32_t>(kChunks, flows);
  LoopPort port{};
  port.memory = static_cast<uint8_t*>(Map(static_cast<size_t>(kChunks) * kChunkSize));
  port.frames = frames;
  port.flows = flows;
  port.chunks = chunks;
  port.clock_step = file[17];
  for (uint32_t i = 0; i < chunks; i++) {
    memcpy(port.memory + static_cast<size_t>(i) * kChunkSize + kHeadroom, frames + static_cast<size_t>(i) * kFrameBytes,
           kFrameBytes);
  }
  FlowTable table(static_cast<uint32_t*>(Map(static_cast<size_t>(flow_slots) * kFlowStride * 4)),
                  static_cast<uint32_t*>(Map(flow_slots / 8)), flow_slots);
  Balancer balancer(tables, table, FlowHash(file + 4), FlowHash(file + 8), counters);

  if (argc == 5) {
    port.capture = fopen(argv[3], "w");
    const double wanted = atof(argv[4]);
    // A burst is settled by the exchange that takes the next one.
    for (double done = 0; done <= wanted; done += kBurst) PollOnce(port, balancer, counters, packets, allowed);
    fclose(port.capture);
    return 0;
  }
  const auto run = [&](int bursts) {
    const double start = CpuNs();
    for (int i = 0; i < bursts; i++) {
      PollOnce(port, balancer, counters, packets, allowed);
      balancer.Sweep(kStartMs);
    }
    return (CpuNs() - start) / (static_cast<double>(bursts) * kBurst);
  };
  const std::vector<double> slices = Measure(run, flows, atof(argv[2]));
  printf("{\"ns\":%.3f,\"best\":%.3f,\"hits\":%.0f,\"misses\":%.0f,\"flows\":%u,\"evictions\":%.0f}\n",
         slices[kSlices / 2], slices[0], counters.hit, counters.miss, table.count, counters.evict);
}
