// Drops UDP by rules on its destination port, -R of them, the first for port 1000 and so on; counts each rule. What no rule wants would go to the host, and is
// given back here. The rules are a table by port, which is all that so many rules of this kind take; the checks are those that a filter cannot do without:
// lengths, version, header checksum.

#include <arpa/inet.h>

#include "job.h"

enum { FIRST_PORT = 1000, RULES_MOST = 60000, UDP = 17 };

static uint16_t load16(const uint8_t* p) {
  uint16_t value;
  memcpy(&value, p, 2);
  return ntohs(value);
}

/** Destination port of a well-formed IPv4 UDP packet that is no fragment, else -1. */
static int32_t udp_port(const uint8_t* frame, uint32_t bytes) {
  if (bytes < 42 || load16(frame + 12) != 0x0800) return -1;
  const uint8_t* ip = frame + 14;
  const uint32_t header = (uint32_t)(ip[0] & 15) * 4, total = load16(ip + 2);
  if (ip[0] >> 4 != 4 || header < 20 || total < header + 8 || total > bytes - 14) return -1;
  uint32_t sum = 0;
  for (uint32_t i = 0; i < header; i += 2) sum += load16(ip + i);
  sum = (sum & 0xffff) + (sum >> 16);
  if (((sum & 0xffff) + (sum >> 16)) != 0xffff || ip[9] != UDP || (load16(ip + 6) & 0x3fff) != 0) return -1;
  const uint32_t length = load16(ip + header + 4);
  return length < 8 || length > total - header ? -1 : load16(ip + header + 2);
}

int main(int argc, char** argv) {
  static struct job job;
  static struct xdp_desc packets[BURST_MOST];
  static uint16_t rule_of[65536];
  static uint64_t matched[RULES_MOST + 1];
  job_begin(&job, "filter", argc, argv, 1, 1);
  if (job.options.rules < 1 || job.options.rules > RULES_MOST) job_usage(argv[0]);
  for (uint32_t i = 0; i < job.options.rules; i++) rule_of[FIRST_PORT + i] = (uint16_t)(i + 1);
  uint32_t count;
  do {
    count = job_receive(&job, &job.ports[0], packets);
    for (uint32_t i = 0; i < count; i++) {
      const int32_t port = udp_port(job.umem.area + packets[i].addr, packets[i].len);
      const uint16_t rule = port < 0 ? 0 : rule_of[port];
      matched[rule]++;
      if (rule != 0) job.counts.dropped++;
      give_back(&job.umem, packets[i].addr);
    }
  } while (job_goes_on(&job, count));
}
