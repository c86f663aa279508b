// Packets that come from nowhere: free frames that JavaScript fills and sends.

#include <algorithm>

#include "xsk_socket.h"

namespace sluice {
namespace {

/// Where a received packet starts in its frame (XDP_PACKET_HEADROOM): headers can be put in front of a composed one too.
constexpr uint32_t kHeadroom = 256;

}  // namespace

uint32_t XskSocket::Compose(uint32_t most) {
  const BurstMemory& burst = *burst_;
  FramePool& pool = umem_->pool();
  uint32_t count = std::min({most, config_.burst - inHand_, pool.free()});
  count = std::min(count, tx_.nb_free(count));
  const uint32_t* const taken = pool.Take(count, FrameState::Rx, config_.index);
  const uint32_t shift = umem_->chunkShift();
  const uint32_t first = inHand_;
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t frame = taken[count - 1 - i];
    frame_[first + i] = frame;
    resumeAtSettle_[first + i].length = -1;
    burst.offset[first + i] = static_cast<int32_t>((frame << shift) + kHeadroom);
  }
  inHand_ = first + count;
  std::fill(burst.length + first, burst.length + inHand_, 0);
  std::fill(burst.verdict + first, burst.verdict + inHand_, 1);  // Drop
  std::fill(burst.target + first, burst.target + inHand_, 0);
  burst.header[0] = static_cast<int32_t>(inHand_);
  return count;
}

}  // namespace sluice
