// Sends one frame (-P, hexadecimal) as fast as it goes, or -C times, as xdpsock -t: it is in packet memory already, only descriptors are written.

#include "job.h"

static uint32_t digits(const char* text, uint8_t* frame) {
  uint32_t bytes = 0;
  for (; text[0] != '\0' && text[1] != '\0' && bytes < FRAME_SIZE; text += 2) {
    const char pair[] = {text[0], text[1], '\0'};
    char* end;
    frame[bytes++] = (uint8_t)strtoul(pair, &end, 16);
    if (*end != '\0') return 0;
  }
  return *text == '\0' ? bytes : 0;
}

int main(int argc, char** argv) {
  static struct job job;
  static struct xdp_desc packets[BURST_MOST];
  static uint8_t frame[FRAME_SIZE];
  job_begin(&job, "txonly", argc, argv, 1, 1);
  const uint32_t bytes = job.options.frame == NULL ? 0 : digits(job.options.frame, frame);
  if (bytes < 14) job_usage(argv[0]);
  for (uint32_t i = 0; i < job.umem.frames; i++) memcpy(job.umem.area + ((size_t)i << FRAME_SHIFT), frame, bytes);
  const uint64_t all = job.options.packets;
  struct port* port = &job.ports[0];
  do {
    uint64_t left = all == 0 ? job.options.batch : all - job.counts.tx;
    if (left > job.options.batch) left = job.options.batch;
    reap(port);
    // As much as there is room for: nothing is lost, it only comes later.
    uint32_t count = room(&port->tx, (uint32_t)left);
    if (count > job.umem.free_count) count = job.umem.free_count;
    for (uint32_t i = 0; i < count; i++) packets[i] = (struct xdp_desc){job.umem.free[--job.umem.free_count], bytes, 0};
    job_send(&job, port, packets, count);
    if (count == 0) kick(port);
    if (all != 0 && job.counts.tx == all && waiting(port) == 0) job_stopped = 1;
  } while (job_goes_on(&job, 1));
}
