#pragma once
// A load of packets out of an interface: BPF_PROG_TEST_RUN with live frames (BPF_F_TEST_XDP_LIVE_FRAMES, Linux 5.18), again
// and again, on a thread of its own. Free of Node-API.
//
// A live-frames run takes a frame and an XDP program, makes pages of the frame, runs the program over each, and does what it
// returns: XDP_TX sends the frame out of the interface as a driver's redirect would (ndo_xdp_xmit), which on a veth is the
// peer's XDP program on this CPU, in this thread's time. Pages are used again without being written again, so the program
// has to write all that may differ from frame to frame. See bpf_test_run_xdp_live in net/bpf/test_run.c.
//
// One run cannot be told to end, except by a signal: one that kills, or stops and continues. So the load is many short ones, and between them the thread
// looks at the time, the count, the rate and whether it is to stop: it ends by itself, and with its process.

#include <pthread.h>
#include <stdint.h>

#include <atomic>
#include <vector>

#include "fd.h"
#include "sys_error.h"
#include "xdp_hold.h"

namespace sluice {

/// One kind of frame of a load.
struct LivePart {
  /// The program, a descriptor of the load's own.
  Fd program;
  std::vector<uint8_t> frame;
  /// Frames of this kind for each so many of the others.
  uint32_t weight = 1;
  /// The load's own; without it a run takes 30 ms.
  XdpHold hold;
};

struct LiveLoad {
  std::vector<LivePart> parts;
  /// An array map whose value of key 0 begins with a __u64 for each part: the frames that its program has run over. It says
  /// how far a run came that a signal has ended. Without one, such a signal ends the load.
  Fd counters;
  /// What XDP_TX sends out of.
  uint32_t ifindex = 0;
  /// Frames that the kernel makes, runs and sends at a time, 1-256; it then looks after its softirqs.
  uint32_t batch = 64;
  /// Frames in all; 0: as many as the time allows.
  uint64_t packets = 0;
  uint64_t duration_ns = 0;
  /// 0: as fast as it goes.
  double packets_per_second = 0;
  /// CPU that the thread stays on, or -1.
  int cpu = -1;
};

/// What a load has done. Written by its thread, read by anybody.
struct LiveProgress {
  /// Frames that runs were asked for and went through: each was made, and the program ran over it.
  uint64_t packets = 0;
  uint64_t runs = 0;
  /// Since the first run, or from there to the end.
  uint64_t elapsed_ns = 0;
  /// CPU time of the thread, with the softirqs that ran in it where the kernel does not account for these apart
  /// (CONFIG_IRQ_TIME_ACCOUNTING).
  uint64_t cpu_ns = 0;
  bool running = false;
};

class LiveRun {
 public:
  explicit LiveRun(LiveLoad load);
  /// Stops and waits, some 10 ms at most.
  ~LiveRun();
  LiveRun(const LiveRun&) = delete;
  LiveRun& operator=(const LiveRun&) = delete;

  /// Starts the thread, in the network namespace of the caller. Call once.
  bool Start(SysError* error);
  /// Asks it to end after the run under way.
  void Stop() { stop_.store(true, std::memory_order_relaxed); }
  LiveProgress progress() const;
  /// The run that failed and ended the load; `err` is 0 when none did. Only once it is not running any more.
  const SysError& error() const { return error_; }

 private:
  static void* Main(void* self);
  bool Prepare();
  void Loop();
  /// The part that is farthest behind its share.
  size_t NextPart() const;
  bool RunOnce(size_t part, uint64_t frames);
  /// Sets sent_ from the counters.
  bool Recount();
  void Publish(uint64_t now_ns);

  LiveLoad load_;
  std::vector<uint64_t> sent_;
  SysError error_;
  pthread_t thread_{};
  bool started_ = false;
  std::atomic<uint64_t> start_ns_{0};
  std::atomic<bool> stop_{false};
  std::atomic<bool> running_{false};
  std::atomic<uint64_t> packets_{0}, runs_{0}, elapsed_ns_{0}, cpu_ns_{0};
};

}  // namespace sluice
