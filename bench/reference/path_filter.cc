// What the filters cost, in C++: the yardstick of the cases of bench/path/filter_cases.ts. As path.cc, and with it in everything behind the filters.
//
//   path_filter FIXTURE MILLISECONDS             prints one line of JSON
//   path_filter FIXTURE --write FILE PACKETS     writes a verdict for each of that many packets, and the bytes of those that leave
//
// FIXTURE.filters has the tables of the filters: int32 [magic, 1: filters and balancer, 0: parser alone; words of rules, index, src4, dst4, slots, records;
// seed, mask], then these parts.

#include "burst.h"
#include "rules.h"
#include "sets.h"
#include "trial.h"

namespace {

constexpr int kFilterHeaderWords = 16;
constexpr int kRuleReason = 18, kSetReason = 52;

struct Filters {
  const uint8_t* allowed;
  HostSet* set;
  Rules* rules;

  /** DropReason, 0: the packet goes on. The order of src/dataplane/filter/chain.ts: sanity checks, sets, rules. */
  int Run(const Packet& p) const {
    if (const int reason = Sane(p, allowed)) return reason;
    if (set && set->Has(p)) return kSetReason;
    if (rules && rules->Match(p) == kRuleDrop) return kRuleReason;
    return 0;
  }
};

/** Reads the headers of a burst, and drops it. Returns a number made of what was found, so that nothing is optimised away. */
uint32_t ParseOnce(LoopPort& port, Packet* packets) {
  const uint32_t n = port.Exchange();
  uint32_t found = 0;
  for (uint32_t i = 0; i < n; i++) {
    Place(port, packets[i], i);
    Parse(packets[i]);
  }
  for (uint32_t i = 0; i < n; i++) {
    const Packet& p = packets[i];
    if (!p.malformed) found = (found << 1 | found >> 31) ^ p.src[0] ^ p.dst[0] ^ p.ports ^ p.protocol ^ p.l3_length ^ p.flags;
    port.verdict[i] = kDrop;
  }
  return found;
}

/** src/dataplane/poll.ts. What is dropped needs no flow hash, so this makes none before the filters have spoken. */
void PollOnce(LoopPort& port, Balancer& balancer, Counters& c, Packet* packets, const Filters& filters) {
  const uint32_t n = port.Exchange();
  for (uint32_t i = 0; i < n; i++) {
    Packet& p = packets[i];
    Place(port, p, i);
    c.rx_bytes += port.length[i];
    Parse(p);
  }
  for (uint32_t i = 0; i < n; i++) {
    Packet& p = packets[i];
    int reason = p.malformed;
    if (reason == 0) reason = filters.Run(p);
    port.verdict[i] = reason == 0 ? kUndecided : kDrop;
    if (reason != 0) c.reasons[reason]++;
    else balancer.Hash(p);
  }
  BalanceBurst(port, balancer, c, packets, n);
}

const int32_t* OpenFilters(const char* fixture) {
  char name[4096];
  snprintf(name, sizeof name, "%s.filters", fixture);
  return MapFile(name);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3 && argc != 5) {
    fprintf(stderr, "usage: path_filter FIXTURE MILLISECONDS | path_filter FIXTURE --write FILE PACKETS\n");
    return 2;
  }
  const int32_t* file = ReadFixture(argv[1]);
  const uint32_t flows = file[1], flow_slots = file[3];
  const Tables tables = TablesOf(file);
  const auto* frames = reinterpret_cast<const uint8_t*>(tables.ring) + ((tables.ring_size + 1) & ~1u) * 2;

  const int32_t* header = OpenFilters(argv[1]);
  const bool whole = header[1] != 0;
  const int32_t* rule_words = header + kFilterHeaderWords;
  const int32_t* index = rule_words + header[2];
  const int32_t* src4 = index + header[3];
  const int32_t* dst4 = src4 + header[4];
  const int32_t* slots = dst4 + header[5];
  const int32_t* records = slots + header[6];

  static Counters counters;
  static Packet packets[kBurst];
  static uint8_t allowed[256];
  memset(allowed, 1, sizeof allowed);
  static double matches[2], rule_counters[4096 * 4];
  HostSet set(slots, static_cast<uint32_t>(header[6]), records, static_cast<uint32_t>(header[8]), static_cast<uint32_t>(header[9]), matches);
  static const int32_t no_rules[kRuleHeader] = {0};
  Rules rules(header[2] ? rule_words : no_rules, index, header[4] ? src4 : nullptr, header[5] ? dst4 : nullptr, rule_counters);
  const Filters filters{allowed, header[6] ? &set : nullptr, header[2] ? &rules : nullptr};
  LoopPort port(frames, flows, file[17]);
  FlowTable table(static_cast<uint32_t*>(Map(static_cast<size_t>(flow_slots) * kFlowStride * 4)),
                  static_cast<uint32_t*>(Map(flow_slots / 8)), flow_slots);
  Balancer balancer(tables, table, FlowHash(file + 4), FlowHash(file + 8), counters);
  uint32_t found = 0;
  const auto poll = [&] {
    if (whole) PollOnce(port, balancer, counters, packets, filters);
    else found = found * 31 + ParseOnce(port, packets);
  };

  if (argc == 5) {
    FILE* out = fopen(argv[3], "w");
    const double wanted = atof(argv[4]);
    for (double done = 0; done < wanted; done += kBurst) {
      poll();
      for (int i = 0; i < kBurst; i++) {
        fputc(port.verdict[i], out);
        if (port.verdict[i] == kTx) fwrite(port.offset[i], 1, port.length[i], out);
      }
    }
    fwrite(&found, sizeof found, 1, out);
    fclose(out);
    return 0;
  }
  const auto run = [&](int bursts) {
    const double start = CpuNs();
    for (int i = 0; i < bursts; i++) {
      poll();
      balancer.Sweep(kStartMs);
    }
    return (CpuNs() - start) / (static_cast<double>(bursts) * kBurst);
  };
  const std::vector<double> slices = Measure(run, flows, atof(argv[2]));
  double by_rules = 0;
  for (int id = 0; id < 4096; id++) by_rules += rule_counters[id * 4 + 2];
  port.Settle();
  printf(
      "{\"ns\":%.3f,\"best\":%.3f,\"packets\":%.0f,\"dropped\":%.0f,\"sent\":%.0f,\"byRules\":%.0f,\"bySet\":%.0f,\"hits\":%.0f,\"found\":%u}\n",
      slices[kSlices / 2], slices[0], port.rx, port.dropped, port.sent, by_rules, matches[0], counters.hit, found);
}
