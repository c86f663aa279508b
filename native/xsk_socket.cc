#include "xsk_socket.h"

#include <errno.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <vector>

#include "clock.h"
#include "link.h"
#include "tap.h"

namespace sluice {
namespace {

// Newer than the headers of Debian 12.
constexpr int kXdpMaxTxSkbBudget = 9;  // XDP_MAX_TX_SKB_BUDGET, Linux 6.17
constexpr int kSoPreferBusyPoll = 69;
constexpr int kSoBusyPollBudget = 70;

/// Copies of up to this many packets are made in one sendto() where the kernel lets us ask (default 32).
constexpr uint32_t kTxBudget = 1024;

int SetInt(int fd, int level, int option, uint32_t value) {
  return setsockopt(fd, level, option, &value, sizeof(value)) == 0 ? 0 : errno;
}

/// Repeats a system call while it fails with `passing`, for at most `retryMs`. 0 or errno.
template <class Call>
int Retrying(int passing, int32_t retryMs, Call call) {
  const int32_t start = NowMs();
  for (int32_t pauseUs = 500;; pauseUs = std::min(pauseUs * 2, 20000)) {
    if (call() == 0) return 0;
    const int err = errno;
    if (err != passing || ElapsedMs(start, NowMs()) >= retryMs) return err;
    SleepUs(pauseUs);
  }
}

constexpr uint32_t kKernelHeadroom = 256;  // XDP_PACKET_HEADROOM
constexpr uint32_t kEthernetAndVlans = 14 + 2 * 4;

/// Bytes of a frame that a driver's zero-copy receive buffer uses. igb and igc tell the device in whole KiB, rounded down, and
/// take each buffer for a packet of its own: a longer packet comes in pieces (igb_setup_srrctl, igc_configure_rx_ring;
/// seen with igb on 7.2).
uint32_t ZeroCopyBuffer(const std::string& driver, uint32_t chunk) {
  const uint32_t room = chunk - kKernelHeadroom;
  return driver == "igb" || driver == "igc" ? room / 1024 * 1024 : room;
}

RingMemory At(const Mapping& map, const xdp_ring_offset& offset, uint32_t size) {
  uint8_t* base = map.data();
  return {reinterpret_cast<uint32_t*>(base + offset.producer), reinterpret_cast<uint32_t*>(base + offset.consumer),
          reinterpret_cast<uint32_t*>(base + offset.flags), base + offset.desc, size};
}

}  // namespace

std::shared_ptr<BurstMemory> BurstMemory::Create(uint32_t capacity) {
  const size_t ints = kHeaderInts + 4 * static_cast<size_t>(capacity);
  auto memory = std::make_shared<BurstMemory>();
  memory->block = Mapping::Anonymous(kPortCounters * sizeof(double) + ints * sizeof(int32_t), false);
  if (!memory->block.valid()) return nullptr;
  memory->counters = reinterpret_cast<double*>(memory->block.data());
  memory->header = reinterpret_cast<int32_t*>(memory->counters + kPortCounters);
  memory->offset = memory->header + kHeaderInts;
  memory->length = memory->offset + capacity;
  memory->verdict = memory->length + capacity;
  memory->target = memory->verdict + capacity;
  return memory;
}

std::string XskSocket::Subject() const { return config_.interface + " queue " + std::to_string(config_.queue); }

std::unique_ptr<XskSocket> XskSocket::Open(std::shared_ptr<Umem> umem, const XskConfig& config, SysError* error) {
  std::unique_ptr<XskSocket> socket(new XskSocket(std::move(umem), config));
  socket->burst_ = BurstMemory::Create(config.burst);
  socket->frame_.reset(new (std::nothrow) uint32_t[config.burst]);
  // Not initialised: pages of it that are never used cost nothing.
  socket->resumed_.reset(new (std::nothrow) Resumed[socket->umem_->frameCount()]);
  socket->resumeAtSettle_.reset(new (std::nothrow) Resumed[config.burst]);
  if (!socket->burst_ || !socket->frame_ || !socket->resumed_ || !socket->resumeAtSettle_) {
    *error = {ENOMEM, "mmap", "the burst of " + socket->Subject(), ""};
    return nullptr;
  }
  if (!socket->OpenSocket(error) || !socket->ChooseMode(error) || !socket->MapRings(error) ||
      !socket->SetBusyPoll(error) || !socket->Bind(error)) {
    // Not in the UMEM's list yet: destruction unmaps and closes, and there are no frames to return.
    return nullptr;
  }
  Umem& owner = *socket->umem_;
  owner.Add(config.index, socket.get());
  // Enough to receive at once, little enough that sockets opened one after the other find their share untouched.
  const uint32_t first = std::max(config.burst, owner.frameCount() * 3 / 4 / Umem::kSockets);
  socket->Refill(std::min(first, socket->fillTarget_));
  return socket;
}

bool XskSocket::OpenSocket(SysError* error) {
  fd_.reset(::socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0));
  if (!fd_) {
    *error = {errno, "socket", "AF_XDP for " + Subject(), ""};
    return false;
  }
  return FindInterface(config_.interface, &ifindex_, error);
}

/// Copy mode where zero-copy would spoil packets, as far as there is a choice.
bool XskSocket::ChooseMode(SysError* error) {
  if (config_.mode == XskMode::Copy) return true;
  const std::string driver = DriverName(config_.interface);
  const uint32_t chunk = umem_->chunkSize();
  const uint32_t buffer = ZeroCopyBuffer(driver, chunk);
  if (buffer == chunk - kKernelHeadroom || LinkMtu(config_.interface) + kEthernetAndVlans <= buffer) return true;
  if (config_.mode == XskMode::ZeroCopy) {
    *error = {EOPNOTSUPP, "bind", Subject(),
              driver + " receives zero-copy into whole KiB, here " + std::to_string(buffer) +
                  " bytes of each frame, and would cut longer packets: use frames of 4096 bytes, or an MTU of at most " +
                  std::to_string(buffer - kEthernetAndVlans) + "."};
    return false;
  }
  config_.mode = XskMode::Copy;
  return true;
}

bool XskSocket::MapRings(SysError* error) {
  const struct {
    int option;
    uint32_t size;
    const char* name;
  } rings[] = {{XDP_RX_RING, config_.rxSize, "RX"},
               {XDP_TX_RING, config_.txSize, "TX"},
               {XDP_UMEM_FILL_RING, config_.fillSize, "fill"},
               {XDP_UMEM_COMPLETION_RING, config_.completionSize, "completion"}};
  for (const auto& ring : rings) {
    const int err = SetInt(fd_.get(), SOL_XDP, ring.option, ring.size);
    if (err != 0) {
      *error = {err, "setsockopt", std::string("the ") + ring.name + " ring of " + Subject(), ""};
      return false;
    }
  }
  // Only larger sends for one system call: without it the kernel is called once for each 32 packets.
  if (config_.txSize >= 32) SetInt(fd_.get(), SOL_XDP, kXdpMaxTxSkbBudget, std::min(config_.txSize, kTxBudget));

  xdp_mmap_offsets at{};
  socklen_t length = sizeof(at);
  if (getsockopt(fd_.get(), SOL_XDP, XDP_MMAP_OFFSETS, &at, &length) != 0 || length < sizeof(at)) {
    *error = {length < sizeof(at) ? EOPNOTSUPP : errno, "getsockopt", "the rings of " + Subject(),
              "The kernel has no need-wakeup flags in its rings: use Linux 5.10 or newer."};
    return false;
  }
  const struct {
    Mapping* map;
    uint64_t bytes;
    uint64_t page;
  } maps[] = {{&rxMap_, at.rx.desc + uint64_t{config_.rxSize} * sizeof(xdp_desc), XDP_PGOFF_RX_RING},
              {&txMap_, at.tx.desc + uint64_t{config_.txSize} * sizeof(xdp_desc), XDP_PGOFF_TX_RING},
              {&fillMap_, at.fr.desc + uint64_t{config_.fillSize} * sizeof(uint64_t), XDP_UMEM_PGOFF_FILL_RING},
              {&completionMap_, at.cr.desc + uint64_t{config_.completionSize} * sizeof(uint64_t),
               XDP_UMEM_PGOFF_COMPLETION_RING}};
  for (const auto& entry : maps) {
    *entry.map = Mapping::Shared(fd_.get(), entry.bytes, entry.page);
    if (!entry.map->valid()) {
      *error = {errno, "mmap", "the rings of " + Subject(), ""};
      return false;
    }
    // A forked child that kept the mapping would keep the queue busy after our close().
    madvise(entry.map->data(), entry.map->size(), MADV_DONTFORK);
  }
  rx_ = RingConsumer<xdp_desc>(At(rxMap_, at.rx, config_.rxSize));
  tx_ = RingProducer<xdp_desc>(At(txMap_, at.tx, config_.txSize));
  fill_ = RingProducer<uint64_t>(At(fillMap_, at.fr, config_.fillSize));
  completion_ = RingConsumer<uint64_t>(At(completionMap_, at.cr, config_.completionSize));
  return true;
}

bool XskSocket::SetBusyPoll(SysError* error) {
  if (!config_.busyPoll) return true;
  const struct {
    int option;
    uint32_t value;
  } options[] = {{kSoPreferBusyPoll, 1},
                 {SO_BUSY_POLL, config_.busyPollTimeout},
                 {kSoBusyPollBudget, config_.busyPollBudget}};
  for (const auto& entry : options) {
    const int err = SetInt(fd_.get(), SOL_SOCKET, entry.option, entry.value);
    if (err != 0) {
      *error = {err, "setsockopt", "busy polling of " + Subject(),
                err == ENOPROTOOPT ? "The kernel has no preferred busy polling: use Linux 5.11 or later." : ""};
      return false;
    }
  }
  return true;
}

int XskSocket::RegisterUmem(SysError* error) {
  if (registered_) return 0;
  const xdp_umem_reg reg = {reinterpret_cast<uintptr_t>(umem_->data()), umem_->size(), umem_->chunkSize(), 0, 0};
  rlimit limit{};
  getrlimit(RLIMIT_MEMLOCK, &limit);
  // Memory of a socket closed just now is still accounted for some milliseconds: with a limit that would do, try again.
  const int err = Retrying(ENOBUFS, limit.rlim_cur >= umem_->size() ? config_.busyRetryMs : 0, [&] {
    return setsockopt(fd_.get(), SOL_XDP, XDP_UMEM_REG, &reg, sizeof(reg));
  });
  registered_ = err == 0;
  if (err == 0) return 0;
  *error = {err, "setsockopt", "the packet memory of " + Subject(), ""};
  if (err == ENOBUFS) {
    error->remedy = "Packet memory needs " + std::to_string(umem_->size()) +
                    " bytes of locked memory and the limit is " + std::to_string(limit.rlim_cur) +
                    ": raise RLIMIT_MEMLOCK (ulimit -l, LimitMEMLOCK=) or grant CAP_IPC_LOCK.";
  }
  return err;
}

/// bind(2), again while EBUSY: a queue is free only some 20 ms after its former socket was closed, because the kernel
/// gives it up from a work queue. A failed bind leaves socket and rings as they were.
int XskSocket::BindRetrying(uint16_t flags, int sharedFd) {
  const uint32_t shared = sharedFd < 0 ? 0u : static_cast<uint32_t>(sharedFd);
  const sockaddr_xdp address = {AF_XDP, flags, ifindex_, config_.queue, shared};
  return Retrying(EBUSY, config_.busyRetryMs, [&] {
    return bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  });
}

/// The first socket registers the memory; later ones share its registration through any sibling that is still bound.
/// They get the sibling's mode with it, so where that cannot be had or is not wanted, the memory is registered once
/// more: the kernel then pins and accounts its pages twice, and nothing else differs.
bool XskSocket::Bind(SysError* error) {
  int err = 0;
  for (uint32_t i = 0; i < Umem::kSockets; ++i) {
    const XskSocket* sibling = umem_->socket(i);
    if (!sibling) continue;
    if (sibling->ifindex_ == ifindex_ && sibling->config_.queue == config_.queue) {
      *error = {EBUSY, "bind", Subject(),
                "Socket " + std::to_string(i) + " of the same packet memory has this queue: close it first."};
      return false;
    }
  }
  bool bound = false;
  for (uint32_t i = 0; i < Umem::kSockets && !bound; ++i) {
    const XskSocket* sibling = umem_->socket(i);
    if (!sibling || sibling->error_ != 0) continue;
    if (config_.mode == XskMode::Copy && sibling->zeroCopy_) continue;
    if (config_.mode == XskMode::ZeroCopy && !sibling->zeroCopy_) continue;
    err = BindRetrying(XDP_SHARED_UMEM, sibling->fd());
    bound = err == 0;
    // EBADF: the sibling lost its interface. EOPNOTSUPP: our device cannot do the sibling's mode.
    if (!bound && err != EBADF && err != EOPNOTSUPP) break;
  }
  if (!bound && (err == 0 || err == EBADF || (err == EOPNOTSUPP && config_.mode != XskMode::ZeroCopy))) {
    if (RegisterUmem(error) != 0) return false;
    uint16_t flags = XDP_USE_NEED_WAKEUP;
    if (config_.mode == XskMode::Copy) flags |= XDP_COPY;
    if (config_.mode == XskMode::ZeroCopy) flags |= XDP_ZEROCOPY;
    err = BindRetrying(flags, -1);
    bound = err == 0;
  }
  if (!bound) {
    DescribeBindError(err, error);
    return false;
  }
  xdp_options options{};
  socklen_t length = sizeof(options);
  zeroCopy_ = getsockopt(fd_.get(), SOL_XDP, XDP_OPTIONS, &options, &length) == 0 &&
              (options.flags & XDP_OPTIONS_ZEROCOPY) != 0;
  return true;
}

void XskSocket::DescribeBindError(int err, SysError* error) const {
  *error = {err, "bind", Subject(), ""};
  if (err != EINVAL) return;
  const uint32_t queues = std::max(QueueCounts(config_.interface).rx, 1u);
  if (config_.queue >= queues) {
    error->remedy = config_.interface + " has " + std::to_string(queues) + (queues == 1 ? " queue" : " queues") +
                    ": choose one below " + std::to_string(queues) + ", or add queues (ethtool -L).";
  }
}

int XskSocket::Statistics(xdp_statistics* out) const {
  *out = {};
  socklen_t length = sizeof(*out);  // an older kernel writes its shorter struct and leaves the rest 0
  return getsockopt(fd_.get(), SOL_XDP, XDP_STATISTICS, out, &length) == 0 ? 0 : errno;
}

int XskSocket::Error() {
  int err = 0;
  socklen_t length = sizeof(err);
  if (getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &err, &length) != 0) err = errno;
  if (err != 0) error_ = err;
  return error_;
}

void XskSocket::Close(int32_t drainMs) {
  if (closed()) return;
  const uint32_t index = config_.index;
  const bool joined = umem_->socket(index) == this;
  std::vector<uint32_t> returned;
  if (joined) {
    const int32_t start = NowMs();
    DrainCompletions();
    while (inFlight() > 0) {
      const int32_t now = NowMs();
      if (ElapsedMs(start, now) >= drainMs) break;
      DriveTx(now);
      DrainCompletions();
      if (inFlight() > 0) SleepUs(100);
    }
    // What the kernel never took from the TX ring it will not look at again.
    const uint32_t producer = tx_.producer();
    for (uint32_t left = std::min(tx_.waiting(), tx_.size()); left > 0; --left) {
      const uint64_t frame = tx_.at(producer - left).addr >> umem_->chunkShift();
      if (frame < umem_->frameCount() && umem_->pool().is(static_cast<uint32_t>(frame), FrameState::Tx, index)) {
        returned.push_back(static_cast<uint32_t>(frame));
      }
    }
  }
  // A ring that is still mapped keeps the socket, and so the queue, in use after close(2).
  rxMap_.reset();
  txMap_.reset();
  fillMap_.reset();
  completionMap_.reset();
  fd_.reset();
  inHand_ = 0;
  resumedCount_ = 0;
  tap_.reset();
  if (joined) umem_->Remove(index, zeroCopy_, returned);
  burst_->header[0] = 0;
}

}  // namespace sluice
