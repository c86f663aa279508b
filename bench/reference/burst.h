// What the programs of the path do alike with a burst (src/dataplane/poll.ts): where a packet lies, its backend, what is counted of it.

#pragma once

#include "balancer.h"
#include "loop_port.h"

inline void Place(LoopPort& port, Packet& p, uint32_t i) {
  p.data = port.offset[i];
  p.end = p.data + port.length[i];
  p.hard_start = port.memory + ((p.data - port.memory) & ~static_cast<ptrdiff_t>(kChunkSize - 1));
}

/** Balances what is undecided of `n` packets, and hands the burst back to the port. */
inline void BalanceBurst(LoopPort& port, Balancer& balancer, Counters& c, Packet* packets, uint32_t n) {
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
