// Load balancing of IPv4 UDP and TCP over AF_XDP: parse, check, flow table, Maglev ring, IP in IP. It is the path of `path.cc` (balancer.h, encap.h, flow_table.h,
// packet.h), which writes the same bytes as the TypeScript path, with the rings of xsk.h in place of the memory port.
//
//   lb -T TABLES -i INTERFACE [-i INTERFACE]
//
// TABLES is a file as bench/path/fixture.ts writes it; its frames are not used. Packets come in by the first interface and leave by the one that their backend's
// record names. What the path does not handle ends the program: send it nothing else.

#include <fcntl.h>
#include <sys/stat.h>

#include "balancer.h"
#include "job.h"

namespace {

constexpr uint32_t kMagic = 0x736c7563;
constexpr size_t kFlowSlots = 65536;
/** Between two looks at kSweepMost slots: once around in kSweepRoundMs, as in TypeScript. */
constexpr int32_t kSweepMs = kSweepRoundMs / (kFlowSlots / kSweepMost);

const int32_t* ReadTables(const char* name) {
  const int fd = open(name, O_RDONLY);
  struct stat st;
  if (fd < 0 || fstat(fd, &st) != 0) die(name);
  void* file = mmap(nullptr, static_cast<size_t>(st.st_size), PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
  if (file == MAP_FAILED || *static_cast<uint32_t*>(file) != kMagic) {
    fprintf(stderr, "%s has no tables\n", name);
    exit(1);
  }
  close(fd);
  return static_cast<const int32_t*>(file);
}

void* Map(size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) die("mmap");
  return memory;
}

/** The packets of a burst that leave, by the port that they leave by. */
struct Leaving {
  xdp_desc packets[PORTS_MOST][BURST_MOST];
  uint32_t count[PORTS_MOST];
};

/** As PollOnce of path.cc: parse and hash all, then check all, look all up, balance all. */
void Burst(struct job& job, Balancer& balancer, const xdp_desc* in, uint32_t n, int32_t now, Leaving& out) {
  static Packet packets[BURST_MOST];
  static int32_t verdict[BURST_MOST];
  static uint8_t allowed[256];
  memset(allowed, 1, sizeof allowed);
  for (uint32_t i = 0; i < n; i++) {
    Packet& p = packets[i];
    p.data = job.umem.area + in[i].addr;
    p.end = p.data + in[i].len;
    p.hard_start = job.umem.area + (in[i].addr & ~uint64_t{FRAME_SIZE - 1});
    if (Parse(p) == 0) balancer.Hash(p);
  }
  for (uint32_t i = 0; i < n; i++) {
    const int reason = packets[i].malformed != 0 ? packets[i].malformed : Sane(packets[i], allowed);
    verdict[i] = reason == 0 ? kUndecided : kDrop;
  }
  balancer.LookUp(packets, verdict, n);
  out.count[0] = out.count[1] = 0;
  for (uint32_t i = 0; i < n; i++) {
    Packet& p = packets[i];
    int reason = 0;
    if (verdict[i] == kUndecided) verdict[i] = balancer.Balance(p, now, reason);
    const uint32_t port = verdict[i] == kTx ? 0 : 1;
    if ((verdict[i] != kTx && verdict[i] != kRedirect) || port >= job.options.interfaces) {
      give_back(&job.umem, in[i].addr);
      job.counts.dropped++;
      continue;
    }
    xdp_desc& packet = out.packets[port][out.count[port]++];
    packet.addr = static_cast<uint64_t>(p.data - job.umem.area);
    packet.len = static_cast<uint32_t>(p.end - p.data);
    packet.options = 0;
  }
}

int32_t NowMs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return static_cast<int32_t>(now.tv_sec * 1000 + now.tv_nsec / 1000000);
}

}  // namespace

int main(int argc, char** argv) {
  static struct job job;
  static xdp_desc packets[BURST_MOST];
  static Leaving leaving;
  static Counters counters;
  job_begin(&job, "lb", argc, argv, 1, 2);
  if (job.options.tables == nullptr) job_usage(argv[0]);
  const int32_t* file = ReadTables(job.options.tables);
  FlowTable flows(static_cast<uint32_t*>(Map(kFlowSlots * kFlowStride * 4)), static_cast<uint32_t*>(Map(kFlowSlots / 8)), kFlowSlots);
  Balancer balancer(TablesOf(file), flows, FlowHash(file + 4), FlowHash(file + 8), counters);
  int32_t swept = NowMs();
  uint32_t count;
  do {
    count = job_receive(&job, &job.ports[0], packets);
    const int32_t now = NowMs();
    if (count > 0) {
      Burst(job, balancer, packets, count, now, leaving);
      for (uint32_t i = 0; i < job.options.interfaces; i++) job_send(&job, &job.ports[i], leaving.packets[i], leaving.count[i]);
    }
    if (now - swept >= kSweepMs) {
      balancer.Sweep(now);
      swept = now;
    }
    for (uint32_t i = 0; count == 0 && i < job.options.interfaces; i++) kick(&job.ports[i]), reap(&job.ports[i]);
  } while (job_goes_on(&job, count));
}
