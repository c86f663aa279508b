// AF_XDP for the reference programs, by system calls alone: packet memory, sockets, rings. C11 and C++17.
//
// The handling of rings is that of the addon (native/xsk_ring.h, xsk_burst.cc), without its accounting of frames: what the kernel hands back is trusted.
// One thread; a frame is in the free list, in a ring, or in hand.

#pragma once

#include <errno.h>
#include <linux/if_xdp.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SOL_XDP
#define SOL_XDP 283
#endif
#ifndef AF_XDP
#define AF_XDP 44
#endif

enum { FRAME_SIZE = 2048, FRAME_SHIFT = 11, FRAMES_A_PORT = 4096, BURST_MOST = 1024, PORTS_MOST = 2 };
#define RING_SIZE 2048u
/** XDP_MAX_TX_SKB_BUDGET (Linux 6.17), and how much the addon asks for: packets that one sendto() copies. */
enum { MAX_TX_SKB_BUDGET = 9, TX_BUDGET = 1024 };
/** Most sendto() calls for one burst, as in the addon. */
enum { SENDS_MOST = 64 };

__attribute__((noreturn)) static inline void die(const char* what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(1);
}

/** `cached` is the other side's index when it was last read; our own index is `own`. */
struct ring {
  uint32_t *producer, *consumer, *flags;
  void* entries;
  uint32_t own, cached;
};

struct umem {
  uint8_t* area;
  /** Addresses of free frames, a stack. */
  uint64_t* free;
  uint32_t free_count, frames;
  /** First socket, which registered the memory; -1: none yet. */
  int fd;
};

struct port {
  struct umem* umem;
  int fd, zero_copy;
  uint32_t ifindex;
  /** Frames that the kernel has for packets to come, or with packets that we have not taken. */
  uint32_t lent;
  struct ring fill, rx, tx, completion;
};

static inline struct xdp_desc* descriptor(struct ring* ring, uint32_t at) {
  return (struct xdp_desc*)ring->entries + (at & (RING_SIZE - 1));
}
static inline uint64_t* address(struct ring* ring, uint32_t at) {
  return (uint64_t*)ring->entries + (at & (RING_SIZE - 1));
}

/** Entries that we may write, `wanted` at most. */
static inline uint32_t room(struct ring* ring, uint32_t wanted) {
  uint32_t left = RING_SIZE - (ring->own - ring->cached);
  if (left < wanted) {
    ring->cached = __atomic_load_n(ring->consumer, __ATOMIC_ACQUIRE);
    left = RING_SIZE - (ring->own - ring->cached);
  }
  return left < wanted ? left : wanted;
}
/** Hands the entries up to `own` to the kernel. */
static inline void submit(struct ring* ring) { __atomic_store_n(ring->producer, ring->own, __ATOMIC_RELEASE); }

/** Entries that we may read, `wanted` at most. */
static inline uint32_t available(struct ring* ring, uint32_t wanted) {
  uint32_t count = ring->cached - ring->own;
  if (count == 0) {
    ring->cached = __atomic_load_n(ring->producer, __ATOMIC_ACQUIRE);
    count = ring->cached - ring->own;
  }
  return count < wanted ? count : wanted;
}
/** Gives the kernel back what was read up to `own`. */
static inline void release(struct ring* ring) { __atomic_store_n(ring->consumer, ring->own, __ATOMIC_RELEASE); }

static inline int wants_wakeup(const struct ring* ring) {
  return (__atomic_load_n(ring->flags, __ATOMIC_RELAXED) & XDP_RING_NEED_WAKEUP) != 0;
}

static inline void umem_open(struct umem* umem, uint32_t ports) {
  umem->frames = FRAMES_A_PORT * ports;
  umem->fd = -1;
  const size_t bytes = (size_t)umem->frames << FRAME_SHIFT;
  umem->area = (uint8_t*)mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  umem->free = (uint64_t*)calloc(umem->frames, sizeof(uint64_t));
  if (umem->area == MAP_FAILED || umem->free == NULL) die("packet memory");
  for (uint32_t i = 0; i < umem->frames; i++) umem->free[i] = (uint64_t)(umem->frames - 1 - i) << FRAME_SHIFT;
  umem->free_count = umem->frames;
}

static inline void ring_map(struct ring* ring, int fd, const struct xdp_ring_offset* at, size_t entry, off_t page) {
  const size_t bytes = at->desc + RING_SIZE * entry;
  uint8_t* base = (uint8_t*)mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, page);
  if (base == MAP_FAILED) die("mmap of a ring");
  ring->producer = (uint32_t*)(base + at->producer);
  ring->consumer = (uint32_t*)(base + at->consumer);
  ring->flags = (uint32_t*)(base + at->flags);
  ring->entries = base + at->desc;
}

static inline void rings_open(struct port* port) {
  static const int options[] = {XDP_UMEM_FILL_RING, XDP_RX_RING, XDP_TX_RING, XDP_UMEM_COMPLETION_RING};
  const uint32_t size = RING_SIZE, budget = TX_BUDGET;
  for (int i = 0; i < 4; i++) {
    if (setsockopt(port->fd, SOL_XDP, options[i], &size, sizeof size) != 0) die("setsockopt of a ring");
  }
  // Older kernels copy 32 packets a call.
  (void)setsockopt(port->fd, SOL_XDP, MAX_TX_SKB_BUDGET, &budget, sizeof budget);
  struct xdp_mmap_offsets at;
  socklen_t length = sizeof at;
  if (getsockopt(port->fd, SOL_XDP, XDP_MMAP_OFFSETS, &at, &length) != 0) die("XDP_MMAP_OFFSETS");
  ring_map(&port->fill, port->fd, &at.fr, sizeof(uint64_t), (off_t)XDP_UMEM_PGOFF_FILL_RING);
  ring_map(&port->rx, port->fd, &at.rx, sizeof(struct xdp_desc), XDP_PGOFF_RX_RING);
  ring_map(&port->tx, port->fd, &at.tx, sizeof(struct xdp_desc), (off_t)XDP_PGOFF_TX_RING);
  ring_map(&port->completion, port->fd, &at.cr, sizeof(uint64_t), (off_t)XDP_UMEM_PGOFF_COMPLETION_RING);
}

/** Lends the kernel as many frames as the RX ring has entries, or as there are. */
static inline void refill(struct port* port) {
  struct umem* umem = port->umem;
  uint32_t count = RING_SIZE - port->lent;
  if (count > umem->free_count) count = umem->free_count;
  count = room(&port->fill, count);
  if (count == 0) return;
  for (uint32_t i = 0; i < count; i++) *address(&port->fill, port->fill.own + i) = umem->free[--umem->free_count];
  port->fill.own += count;
  port->lent += count;
  submit(&port->fill);
}

/** A socket on one queue with copies or without, sharing memory with the sockets before it. Ends the program when it cannot be had. */
static inline void port_open(struct port* port, struct umem* umem, const char* name, uint32_t queue, int zero_copy) {
  memset(port, 0, sizeof *port);
  port->umem = umem;
  port->zero_copy = zero_copy;
  port->ifindex = if_nametoindex(name);
  if (port->ifindex == 0) die(name);
  port->fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (port->fd < 0) die("socket");
  rings_open(port);
  struct sockaddr_xdp to;
  memset(&to, 0, sizeof to);
  to.sxdp_family = AF_XDP;
  to.sxdp_ifindex = port->ifindex;
  to.sxdp_queue_id = queue;
  if (umem->fd < 0) {
    struct xdp_umem_reg memory;
    memset(&memory, 0, sizeof memory);
    memory.addr = (uint64_t)(uintptr_t)umem->area;
    memory.len = (uint64_t)umem->frames << FRAME_SHIFT;
    memory.chunk_size = FRAME_SIZE;
    if (setsockopt(port->fd, SOL_XDP, XDP_UMEM_REG, &memory, sizeof memory) != 0) die("XDP_UMEM_REG");
    to.sxdp_flags = (uint16_t)(XDP_USE_NEED_WAKEUP | (zero_copy ? XDP_ZEROCOPY : XDP_COPY));
    umem->fd = port->fd;
  } else {
    to.sxdp_flags = XDP_SHARED_UMEM;
    to.sxdp_shared_umem_fd = (uint32_t)umem->fd;
  }
  // A queue is free only some 20 ms after its former socket was closed.
  int tries = 0;
  while (bind(port->fd, (const struct sockaddr*)&to, sizeof to) != 0) {
    if (errno != EBUSY || ++tries > 100) die("bind");
    usleep(10000);
  }
  refill(port);
}

/** Takes up to `most` packets off the RX ring; their frames are in hand. */
static inline uint32_t receive(struct port* port, struct xdp_desc* packets, uint32_t most) {
  if (wants_wakeup(&port->fill)) (void)recvfrom(port->fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
  const uint32_t count = available(&port->rx, most);
  for (uint32_t i = 0; i < count; i++) {
    packets[i] = *descriptor(&port->rx, port->rx.own + i);
    __builtin_prefetch(port->umem->area + packets[i].addr);
  }
  if (count > 0) {
    port->rx.own += count;
    port->lent -= count;
    release(&port->rx);
  }
  return count;
}

/** The packet's frame is free again. */
static inline void give_back(struct umem* umem, uint64_t addr) {
  umem->free[umem->free_count++] = addr & ~(uint64_t)(FRAME_SIZE - 1);
}

/** Takes back the frames of what was sent. */
static inline uint32_t reap(struct port* port) {
  const uint32_t count = available(&port->completion, RING_SIZE);
  for (uint32_t i = 0; i < count; i++) give_back(port->umem, *address(&port->completion, port->completion.own + i));
  if (count > 0) {
    port->completion.own += count;
    release(&port->completion);
  }
  return count;
}

/** Puts packets in hand on the TX ring; returns for how many it had room. The others' frames are free again. */
static inline uint32_t put(struct port* port, const struct xdp_desc* packets, uint32_t count) {
  const uint32_t fit = room(&port->tx, count);
  for (uint32_t i = 0; i < fit; i++) *descriptor(&port->tx, port->tx.own + i) = packets[i];
  for (uint32_t i = fit; i < count; i++) give_back(port->umem, packets[i].addr);
  if (fit > 0) {
    port->tx.own += fit;
    submit(&port->tx);
  }
  return fit;
}

static inline uint32_t waiting(const struct port* port) {
  return port->tx.own - __atomic_load_n(port->tx.consumer, __ATOMIC_ACQUIRE);
}

/** Has the kernel send what is on the TX ring. In copy mode that is this call's own work: again for as long as something moves. */
static inline void kick(struct port* port) {
  for (int sends = 0; sends < SENDS_MOST; sends++) {
    const uint32_t before = waiting(port);
    if (before == 0 || (port->zero_copy && !wants_wakeup(&port->tx))) return;
    const int sent = sendto(port->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) >= 0;
    if (!sent && errno != EAGAIN && errno != EBUSY && errno != ENOBUFS && errno != ENOMEM && errno != EINTR) die("sendto");
    if (reap(port) == 0 && waiting(port) == before) return;
  }
}
