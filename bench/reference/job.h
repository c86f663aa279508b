// What all reference programs have in common: options (xdpsock's words), when to stop, and a report as JSON, one line each interval and one at the end.
//
//   PROGRAM -i INTERFACE [-i INTERFACE] [-q QUEUE] [-b BATCH] [-p] [-z | -S] [-d SECONDS] [-n MILLISECONDS] …
//
//   {"mode":"l2fwd","seconds":1.000,"rx":…,"rxBytes":…,"tx":…,"txBytes":…,"dropped":…,"txLost":…,"missed":…,"cpuSeconds":…,"final":false}
//
// Counts are since the start: `dropped` by the job, `txLost` for want of room on the TX ring, `missed` for want of room on the way to the program.

#pragma once

#include <poll.h>
#include <signal.h>
#include <time.h>

#include "xdp.h"

/** Longest sleep of -p, ms. */
enum { SLEEP_MS = 20 };
/** How long -p looks at the rings before it sleeps, and when it leaves that out: as the addon does (native/umem.h). */
enum { SPIN_NS = 20000, SPIN_CREDIT = 16, SPIN_GAIN = 2, SPIN_ANYWAY_EVERY = 16 };

struct options {
  const char* interface[PORTS_MOST];
  uint32_t interfaces, queue, batch;
  int poll, zero_copy, generic;
  /** 0: until a signal. */
  double seconds;
  /** 0: only at the end. */
  double interval_s;
  /** txonly: packets to send, 0 no end; the frame as hexadecimal digits. */
  uint64_t packets;
  const char* frame;
  /** filter: rules. lb: file of tables. */
  uint32_t rules;
  const char* tables;
};

struct counts {
  uint64_t rx, rx_bytes, tx, tx_bytes, dropped, tx_lost;
};

struct job {
  const char* mode;
  struct options options;
  struct umem umem;
  struct port ports[PORTS_MOST];
  struct counts counts;
  double started, reported;
  uint32_t spin_credit, spins_left_out;
};

static volatile sig_atomic_t job_stopped;

static inline void job_stop(int number) {
  (void)number;
  job_stopped = 1;
}

static inline double seconds_of(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static inline void job_report(struct job* job, int final) {
  const double now = seconds_of(CLOCK_MONOTONIC);
  uint64_t missed = 0;
  for (uint32_t i = 0; i < job->options.interfaces; i++) {
    struct xdp_statistics kernel;
    memset(&kernel, 0, sizeof kernel);
    socklen_t length = sizeof kernel;
    if (getsockopt(job->ports[i].fd, SOL_XDP, XDP_STATISTICS, &kernel, &length) != 0) die("XDP_STATISTICS");
    missed += kernel.rx_dropped + kernel.rx_ring_full;
  }
  const struct counts* c = &job->counts;
  printf("{\"mode\":\"%s\",\"seconds\":%.6f,\"rx\":%llu,\"rxBytes\":%llu,\"tx\":%llu,\"txBytes\":%llu,\"dropped\":%llu,"
         "\"txLost\":%llu,\"missed\":%llu,\"cpuSeconds\":%.6f,\"final\":%s}\n",
         job->mode, now - job->started, (unsigned long long)c->rx, (unsigned long long)c->rx_bytes, (unsigned long long)c->tx,
         (unsigned long long)c->tx_bytes, (unsigned long long)c->dropped, (unsigned long long)c->tx_lost,
         (unsigned long long)missed, seconds_of(CLOCK_PROCESS_CPUTIME_ID), final ? "true" : "false");
  fflush(stdout);
}

__attribute__((noreturn)) static inline void job_usage(const char* program) {
  fprintf(stderr,
          "usage: %s -i INTERFACE [-i INTERFACE] [-q QUEUE] [-b BATCH] [-p] [-z | -S] [-d SECONDS] [-n MILLISECONDS]\n"
          "  -C PACKETS -P FRAME (txonly)   -R RULES (filter)   -T TABLES (lb)\n",
          program);
  exit(2);
}

static inline void job_options(struct options* o, uint32_t batch, int argc, char** argv) {
  memset(o, 0, sizeof *o);
  o->batch = batch;
  o->rules = 100;
  int letter;
  while ((letter = getopt(argc, argv, "i:q:b:pzSd:n:C:P:R:T:")) != -1) {
    switch (letter) {
      case 'i':
        if (o->interfaces == PORTS_MOST) job_usage(argv[0]);
        o->interface[o->interfaces++] = optarg;
        break;
      case 'q': o->queue = (uint32_t)strtoul(optarg, NULL, 10); break;
      case 'b': o->batch = (uint32_t)strtoul(optarg, NULL, 10); break;
      case 'p': o->poll = 1; break;
      case 'z': o->zero_copy = 1; break;
      case 'S': o->generic = 1; break;
      case 'd': o->seconds = strtod(optarg, NULL); break;
      case 'n': o->interval_s = strtod(optarg, NULL) / 1000; break;
      case 'C': o->packets = strtoull(optarg, NULL, 10); break;
      case 'P': o->frame = optarg; break;
      case 'R': o->rules = (uint32_t)strtoul(optarg, NULL, 10); break;
      case 'T': o->tables = optarg; break;
      default: job_usage(argv[0]);
    }
  }
  if (optind != argc || o->batch < 1 || o->batch > BURST_MOST || o->queue >= QUEUES_MOST) job_usage(argv[0]);
}

/** Opens `least` to `most` interfaces, and says {"ready":true} once packets can come. */
static inline void job_begin(struct job* job, const char* mode, int argc, char** argv, uint32_t least, uint32_t most) {
  memset(job, 0, sizeof *job);
  job->mode = mode;
  job->spin_credit = SPIN_CREDIT;
  struct options* o = &job->options;
  // The defaults of `sluice bench` (src/bench/modes.ts).
  job_options(o, strcmp(mode, "lb") == 0 || strcmp(mode, "filter") == 0 ? 64 : 128, argc, argv);
  if (o->interfaces < least || o->interfaces > most) job_usage(argv[0]);
  umem_open(&job->umem, o->interfaces);
  for (uint32_t i = 0; i < o->interfaces; i++) port_open(&job->ports[i], &job->umem, o->interface[i], o->queue, o->zero_copy);
  for (uint32_t i = 0; i < o->interfaces; i++) xdp_attach(&job->ports[i], o->queue, o->generic);
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = job_stop;
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  printf("{\"ready\":true}\n");
  fflush(stdout);
  job->started = job->reported = seconds_of(CLOCK_MONOTONIC);
}

/** True when packets came within some µs. */
static inline int job_spin(struct job* job) {
  if (job->spin_credit == 0 && ++job->spins_left_out < SPIN_ANYWAY_EVERY) return 0;
  job->spins_left_out = 0;
  const double end = seconds_of(CLOCK_MONOTONIC) + SPIN_NS / 1e9;
  do {
    for (uint32_t i = 0; i < job->options.interfaces; i++) {
      if (available(&job->ports[i].rx, 1) == 0) continue;
      job->spin_credit += SPIN_GAIN;
      if (job->spin_credit > SPIN_CREDIT) job->spin_credit = SPIN_CREDIT;
      return 1;
    }
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  } while (seconds_of(CLOCK_MONOTONIC) < end);
  if (job->spin_credit > 0) job->spin_credit--;
  return 0;
}

/** False at the end, which it reports. Once a round; `packets`: what the round had. With -p it sleeps when that was nothing. */
static inline int job_goes_on(struct job* job, uint32_t packets) {
  const struct options* o = &job->options;
  if (packets == 0 && o->poll && !job_stopped && !job_spin(job)) {
    struct pollfd wait[PORTS_MOST];
    for (uint32_t i = 0; i < o->interfaces; i++) wait[i] = (struct pollfd){job->ports[i].fd, POLLIN, 0};
    (void)poll(wait, o->interfaces, SLEEP_MS);
  }
  // Behind by some milliseconds, and cheaper.
  const double now = seconds_of(CLOCK_MONOTONIC_COARSE);
  const int ends = job_stopped || (o->seconds > 0 && now - job->started >= o->seconds);
  if (ends || (o->interval_s > 0 && now - job->reported >= o->interval_s)) {
    job->reported = now;
    job_report(job, ends);
  }
  return !ends;
}

/** Counts packets that came in; returns them. */
static inline uint32_t job_receive(struct job* job, struct port* port, struct xdp_desc* packets) {
  refill(port);
  const uint32_t count = receive(port, packets, job->options.batch);
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < count; i++) bytes += packets[i].len;
  job->counts.rx += count;
  job->counts.rx_bytes += bytes;
  return count;
}

/** Sends packets in hand and counts them. */
static inline void job_send(struct job* job, struct port* port, const struct xdp_desc* packets, uint32_t count) {
  if (count == 0) return;
  reap(port);
  uint64_t bytes = 0;
  const uint32_t sent = put(port, packets, count);
  for (uint32_t i = 0; i < sent; i++) bytes += packets[i].len;
  job->counts.tx += sent;
  job->counts.tx_bytes += bytes;
  job->counts.tx_lost += count - sent;
  kick(port);
}

static inline void swap_macs(uint8_t* frame) {
  uint8_t destination[6];
  memcpy(destination, frame, 6);
  memcpy(frame, frame + 6, 6);
  memcpy(frame + 6, destination, 6);
}
