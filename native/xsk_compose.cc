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
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t frame = pool.Take(config_.index);
    pool.Received(frame, config_.index);
    const uint32_t slot = inHand_++;
    frame_[slot] = frame;
    resumeAtSettle_[slot].length = -1;
    burst.offset[slot] = static_cast<int32_t>((frame << umem_->chunkShift()) + kHeadroom);
    burst.length[slot] = 0;
    burst.verdict[slot] = 1;  // Drop
    burst.target[slot] = 0;
  }
  burst.header[0] = static_cast<int32_t>(inHand_);
  return count;
}

}  // namespace sluice
