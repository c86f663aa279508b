// The work of the TypeScript path, written in C++: the yardstick of `npm run bench`. Same fixture, same tables, same order of
// work, same checks, same counters; a plain program, compiled with -O2 by bench/path/sides.ts.
//
//   path FIXTURE MILLISECONDS             prints one line of JSON
//   path FIXTURE --write FILE PACKETS     writes that many packets as they leave
//
// VLAN tags, fragments, options, other protocols and whatever else the fixtures do not have end the program, at the branches that they take in
// TypeScript.

#include "burst.h"
#include "trial.h"

namespace {

/** src/dataplane/poll.ts: a loop a step. Has no need of a short way (plain.ts): a struct's fields cost a compiler nothing. */
void PollOnce(LoopPort& port, Balancer& balancer, Counters& c, Packet* packets, const uint8_t* allowed) {
  const uint32_t n = port.Exchange();
  for (uint32_t i = 0; i < n; i++) {
    Packet& p = packets[i];
    Place(port, p, i);
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
  BalanceBurst(port, balancer, c, packets, n);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3 && argc != 5) {
    fprintf(stderr, "usage: path FIXTURE MILLISECONDS | path FIXTURE --write FILE PACKETS\n");
    return 2;
  }
  const int32_t* file = ReadFixture(argv[1]);
  const uint32_t flows = file[1], flow_slots = file[3];
  const Tables tables = TablesOf(file);
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
