// Sends each packet back where it came from, hardware addresses swapped, as xdpsock -l.

#include "job.h"

int main(int argc, char** argv) {
  static struct job job;
  static struct xdp_desc packets[BURST_MOST];
  job_begin(&job, "l2fwd", argc, argv, 1, 1);
  uint32_t count;
  do {
    count = job_receive(&job, &job.ports[0], packets);
    for (uint32_t i = 0; i < count; i++) swap_macs(job.umem.area + packets[i].addr);
    job_send(&job, &job.ports[0], packets, count);
    if (count == 0) kick(&job.ports[0]), reap(&job.ports[0]);
  } while (job_goes_on(&job, count));
}
