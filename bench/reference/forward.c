// Sends each packet out of the other interface, hardware addresses swapped, as xsk_fwd. Both interfaces share packet memory: nothing is copied in between.

#include "job.h"

int main(int argc, char** argv) {
  static struct job job;
  static struct xdp_desc packets[BURST_MOST];
  job_begin(&job, "forward", argc, argv, 2, 2);
  uint32_t round;
  do {
    round = 0;
    for (int from = 0; from < 2; from++) {
      const uint32_t count = job_receive(&job, &job.ports[from], packets);
      for (uint32_t i = 0; i < count; i++) swap_macs(job.umem.area + packets[i].addr);
      job_send(&job, &job.ports[1 - from], packets, count);
      round += count;
    }
    for (int i = 0; round == 0 && i < 2; i++) kick(&job.ports[i]), reap(&job.ports[i]);
  } while (job_goes_on(&job, round));
}
