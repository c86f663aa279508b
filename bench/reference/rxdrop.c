// Receives and drops, as xdpsock -r: nothing looks into the packets.

#include "job.h"

int main(int argc, char** argv) {
  static struct job job;
  static struct xdp_desc packets[BURST_MOST];
  job_begin(&job, "rxdrop", argc, argv, 1, 1);
  uint32_t count;
  do {
    count = job_receive(&job, &job.ports[0], packets);
    for (uint32_t i = 0; i < count; i++) give_back(&job.umem, packets[i].addr);
    job.counts.dropped += count;
  } while (job_goes_on(&job, count));
}
