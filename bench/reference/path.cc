// The work of the TypeScript path, written in C++: the yardstick of `npm run bench`. Same fixture, same tables, same order of
// work, same checks, same counters; a plain program, compiled with -O2 by bench/path/sides.ts.
//
//   path FIXTURE MILLISECONDS             prints one line of JSON
//   path FIXTURE --write FILE PACKETS     writes that many packets as they leave
//
// VLAN tags, fragments, options, other protocols and whatever else the fixtures do not have end the program, at the branches that they take in
// TypeScript.

#include "balancer.h"
#include "loop_port.h"
#include "trial.h"

namespace {

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
  LoopPort port(frames, flows, file[17]);
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
