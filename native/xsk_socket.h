#pragma once
// One AF_XDP socket on one queue: set-up and close (xsk_socket.cc), and the burst (xsk_burst.cc). Free of Node-API.
//
//            fill ring ──▶ kernel ──▶ RX ring            we produce fill and TX, we consume RX and completion;
//   Umem's pool   ▲                     │ burst          the kernel has the other end of each
//                 └── completion ◀── kernel ◀── TX ring  (of this socket, or of a sibling on the same UMEM)

#include <linux/if_xdp.h>
#include <stdint.h>

#include <memory>
#include <string>

#include "fd.h"
#include "mapping.h"
#include "sys_error.h"
#include "umem.h"
#include "xsk_ring.h"

namespace sluice {

class Tap;

enum class XskMode { Auto, ZeroCopy, Copy };

struct XskConfig {
  std::string interface;
  uint32_t queue = 0;
  XskMode mode = XskMode::Auto;
  /// Place among the UMEM's sockets, below Umem::kSockets.
  uint32_t index = 0;
  uint32_t rxSize = 2048;
  uint32_t txSize = 2048;
  uint32_t fillSize = 2048;
  uint32_t completionSize = 2048;
  /// Packets.
  uint32_t burst = 64;
  bool busyPoll = false;
  /// µs.
  uint32_t busyPollTimeout = 0;
  /// Packets.
  uint32_t busyPollBudget = 0;
  int32_t busyRetryMs = 1000;
};

/// Indices of the counters, as PortCounter in src/shared/layout.ts; the kernel's own and the gauges are not written
/// here.
enum PortCounter : uint32_t {
  kRxPackets = 0,
  kRxBytes = 1,
  kTxPackets = 2,
  kTxBytes = 3,
  kCompletions = 4,
  kTxFull = 5,
  kTxInvalid = 6,
  kCompletionBogus = 7,
  kPassPackets = 8,
  kPassLost = 9,
  kWakeups = 10,
  kSendErrors = 11,
  kDropped = 12,
  kPortCounters = 25,
};

/// The arrays that JavaScript sees, in one zeroed block. JavaScript may write anything into them at any time between
/// two calls, and may hold them longer than the socket lives.
struct BurstMemory {
  static constexpr size_t kHeaderInts = 4;
  Mapping block;
  double* counters = nullptr;
  int32_t* header = nullptr;
  int32_t* offset = nullptr;
  int32_t* length = nullptr;
  int32_t* verdict = nullptr;
  int32_t* target = nullptr;

  /// Null when there is no memory.
  static std::shared_ptr<BurstMemory> Create(uint32_t capacity);
};

class XskSocket {
 public:
  /// Opens, maps and binds. Null with `error` filled in, and nothing left behind, when any step fails.
  static std::unique_ptr<XskSocket> Open(std::shared_ptr<Umem> umem, const XskConfig& config, SysError* error);
  ~XskSocket() { Close(0); }

  /// The crossing of a burst; see XskSocket.exchange in src/native.ts. Number of packets in the new burst.
  uint32_t Exchange();
  /// Sends what waits for at most `drainMs`, unmaps the rings, closes the descriptor, returns the frames. Idempotent.
  void Close(int32_t drainMs);
  bool closed() const { return !fd_.valid(); }

  /// Takes a frame that is held back into the burst: the next exchange hands it out first, as a packet at `offset` of
  /// `length` bytes. Held are also packets in hand whose verdict is Hold. False, nothing changed, for a frame that this
  /// socket does not hold and a place outside its chunk.
  bool Resume(int32_t offset, int32_t length);
  /// Frees the held frame that `offset` lies in, and counts it as dropped. False for a frame that is not held here.
  bool Release(int32_t offset);
  /// Takes up to `most` free frames into hand, behind the packets of the burst, for packets that JavaScript writes and sends: as many as there are, as fit
  /// into the burst, and as the TX ring has room for. Each has room for headers in front, length 0 and verdict Drop. Their number.
  uint32_t Compose(uint32_t most);
  /// Packets that wait for the next exchange without any more being received.
  uint32_t resumedWaiting() const { return resumedCount_; }

  void SetTap(std::shared_ptr<Tap> tap) { tap_ = std::move(tap); }
  /// 0, or errno of XDP_STATISTICS. Fields that an older kernel does not have are 0.
  int Statistics(xdp_statistics* out) const;
  /// SO_ERROR, kept: the kernel forgets it once read.
  int Error();

  /// Whether packets wait on the RX ring.
  bool receivable() { return rx_.nb_avail(1) > 0; }

  int fd() const { return fd_.get(); }
  uint32_t ifindex() const { return ifindex_; }
  const XskConfig& config() const { return config_; }
  bool zeroCopy() const { return zeroCopy_; }
  const std::shared_ptr<BurstMemory>& burst() const { return burst_; }
  const RingProducer<uint64_t>& fill() const { return fill_; }
  const RingConsumer<xdp_desc>& rx() const { return rx_; }
  const RingProducer<xdp_desc>& tx() const { return tx_; }
  const RingConsumer<uint64_t>& completion() const { return completion_; }

  // For the UMEM, which acts for all its sockets.
  /// Frames that the fill ring and the kernel together should hold for this socket.
  void SetFillTarget(uint32_t frames) { fillTarget_ = frames; }
  /// Takes every completion; the number of frames that came back.
  uint32_t DrainCompletions();
  /// Wakes the kernel until the TX ring is empty or nothing moves. True when something still waits.
  bool DriveTx(int32_t nowMs);
  uint32_t inFlight() const { return umem_->pool().owned(FrameState::Tx, config_.index); }

 private:
  XskSocket(std::shared_ptr<Umem> umem, const XskConfig& config) : umem_(std::move(umem)), config_(config) {}

  // Set-up, in order; false with `error` filled in.
  bool OpenSocket(SysError* error);
  bool ChooseMode(SysError* error);
  bool MapRings(SysError* error);
  bool SetBusyPoll(SysError* error);
  bool Bind(SysError* error);
  int RegisterUmem(SysError* error);
  int BindRetrying(uint16_t flags, int sharedFd);
  void DescribeBindError(int err, SysError* error) const;
  std::string Subject() const;

  // The burst.
  void Settle();
  void Pass(int32_t offset, int32_t length, uint32_t frame);
  uint32_t DropRun(uint32_t first);
  uint32_t SendRun(uint32_t first);
  uint32_t Leaves(uint32_t slot) const;
  bool InsideChunk(int32_t offset, int32_t length, uint32_t frame) const;
  void Refill(uint32_t target);
  void WakeRx();
  uint32_t SlotToHold(uint32_t frame) const;
  uint32_t TakeResumed();
  uint32_t Receive(uint32_t taken);

  std::shared_ptr<Umem> umem_;
  XskConfig config_;
  std::shared_ptr<BurstMemory> burst_;
  std::shared_ptr<Tap> tap_;
  /// Frame of each slot of the burst in hand; JavaScript cannot reach it.
  std::unique_ptr<uint32_t[]> frame_;
  uint32_t inHand_ = 0;
  /// Resumed packets, oldest first: a ring of as many entries as there are frames.
  struct Resumed {
    int32_t offset;
    int32_t length;
  };
  std::unique_ptr<Resumed[]> resumed_;
  /// By slot of the burst in hand: what to resume as soon as it is held, length −1: nothing.
  std::unique_ptr<Resumed[]> resumeAtSettle_;
  uint32_t resumedFirst_ = 0;
  uint32_t resumedCount_ = 0;
  uint32_t fillTarget_ = 0;
  /// Errno of the last send that failed for the whole socket, 0 when the last one worked, and when that was: it is
  /// tried again once the clock has moved. header[2] shows it, but JavaScript may write there.
  int32_t sendErrno_ = 0;
  int32_t sendFailedMs_ = 0;
  int error_ = 0;
  uint32_t ifindex_ = 0;
  bool zeroCopy_ = false;
  bool registered_ = false;

  Fd fd_;
  Mapping fillMap_, rxMap_, txMap_, completionMap_;
  RingProducer<uint64_t> fill_;
  RingConsumer<xdp_desc> rx_;
  RingProducer<xdp_desc> tx_;
  RingConsumer<uint64_t> completion_;
};

}  // namespace sluice
