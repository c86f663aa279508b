// Round trips of one message at a time, over UDP or one TCP connection (as netperf's TCP_RR): the two ends of the latency bench.
//
//   pingpong server -u|-t -a ADDRESS -p PORT
//   pingpong client -u|-t -a ADDRESS -p PORT [-d SECONDS] [-w SECONDS] [-s BYTES]
//
// Both say {"ready":true}. The server ends with a signal; the client after -w seconds that do not count and -d that do:
//
//   {"count":…,"lost":…,"p50":…,"p99":…,"p999":…,"max":…}    ns; lost: no answer within 20 ms (UDP), none of which is in the percentiles
//
// Each message has a number, and an answer must be the message. Both ends run before all others where they may (SCHED_FIFO): what is measured is the way between them.

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { BYTES_MOST = 1400, SAMPLES_MOST = 4 << 20, LOST_US = 20000, PRIORITY = 10 };
#define PATIENCE_NS 5000000000u

struct options {
  int server, tcp, port, bytes;
  const char* address;
  double seconds, warm;
};

__attribute__((noreturn)) static void die(const char* what) {
  fprintf(stderr, "pingpong: %s: %s\n", what, strerror(errno));
  exit(1);
}

__attribute__((noreturn)) static void usage(void) {
  fprintf(stderr, "usage: pingpong server|client -u|-t -a ADDRESS -p PORT [-d SECONDS] [-w SECONDS] [-s BYTES]\n");
  exit(2);
}

static struct options options_of(int argc, char** argv) {
  struct options o = {.bytes = 18, .seconds = 1, .warm = 0.1, .tcp = -1};
  if (argc < 2) usage();
  o.server = strcmp(argv[1], "server") == 0;
  if (!o.server && strcmp(argv[1], "client") != 0) usage();
  int letter;
  optind = 2;
  while ((letter = getopt(argc, argv, "uta:p:d:w:s:")) != -1) {
    switch (letter) {
      case 'u': o.tcp = 0; break;
      case 't': o.tcp = 1; break;
      case 'a': o.address = optarg; break;
      case 'p': o.port = atoi(optarg); break;
      case 'd': o.seconds = strtod(optarg, NULL); break;
      case 'w': o.warm = strtod(optarg, NULL); break;
      case 's': o.bytes = atoi(optarg); break;
      default: usage();
    }
  }
  const int sized = o.bytes >= (int)sizeof(uint64_t) && o.bytes <= BYTES_MOST;
  if (optind != argc || o.tcp < 0 || o.address == NULL || o.port <= 0 || o.port > 65535 || !sized) usage();
  return o;
}

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static struct sockaddr_in address_of(const struct options* o) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)o->port)};
  if (inet_pton(AF_INET, o->address, &at.sin_addr) != 1) usage();
  return at;
}

static void at_once(int fd) {
  const int on = 1;
  if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) die("TCP_NODELAY");
}

static void say_ready(void) {
  printf("{\"ready\":true}\n");
  fflush(stdout);
}

/** All of a message, or nothing: 0 when the other end has gone, or nothing came in time (errno EAGAIN). */
static int read_whole(int fd, uint8_t* message, int bytes) {
  for (int got = 0; got < bytes;) {
    const ssize_t n = recv(fd, message + got, (size_t)(bytes - got), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return 0;
    got += (int)n;
  }
  return 1;
}

static void serve(const struct options* o) {
  static uint8_t message[BYTES_MOST];
  const struct sockaddr_in at = address_of(o);
  const int fd = socket(AF_INET, (o->tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0);
  const int on = 1;
  if (fd < 0) die("socket");
  if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0) die("SO_REUSEADDR");
  if (bind(fd, (const struct sockaddr*)&at, sizeof at) != 0) die("bind");
  if (o->tcp && listen(fd, 1) != 0) die("listen");
  say_ready();
  while (!o->tcp) {
    struct sockaddr_in from;
    socklen_t length = sizeof from;
    const ssize_t bytes = recvfrom(fd, message, sizeof message, 0, (struct sockaddr*)&from, &length);
    if (bytes >= 0) (void)sendto(fd, message, (size_t)bytes, 0, (const struct sockaddr*)&from, length);
  }
  for (;;) {
    const int peer = accept(fd, NULL, NULL);
    if (peer < 0) die("accept");
    at_once(peer);
    for (ssize_t bytes; (bytes = recv(peer, message, sizeof message, 0)) > 0;) {
      if (send(peer, message, (size_t)bytes, MSG_NOSIGNAL) != bytes) break;
    }
    close(peer);
  }
}

static int compare(const void* a, const void* b) {
  const uint32_t x = *(const uint32_t*)a, y = *(const uint32_t*)b;
  return (x > y) - (x < y);
}

/** Nearest rank. */
static uint32_t percentile(const uint32_t* sorted, size_t count, double part) {
  size_t rank = (size_t)((double)count * part);
  return sorted[rank < count ? rank : count - 1];
}

static void ask(const struct options* o) {
  static uint32_t samples[SAMPLES_MOST];
  static uint8_t message[BYTES_MOST], answer[BYTES_MOST];
  const struct sockaddr_in at = address_of(o);
  const int fd = socket(AF_INET, (o->tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0);
  if (fd < 0) die("socket");
  if (connect(fd, (const struct sockaddr*)&at, sizeof at) != 0) die("connect");
  // TCP sends again by itself; to wait less than that would lose count.
  const struct timeval limit = o->tcp ? (struct timeval){5, 0} : (struct timeval){0, LOST_US};
  if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0) die("SO_RCVTIMEO");
  if (o->tcp) at_once(fd);
  say_ready();

  size_t count = 0;
  uint64_t lost = 0;
  const uint64_t counts_from = now_ns() + (uint64_t)(o->warm * 1e9);
  const uint64_t end = counts_from + (uint64_t)(o->seconds * 1e9);
  uint64_t sent = now_ns();
  // A machine that others keep busy may not answer in time at all, but some day.
  const uint64_t latest = end + PATIENCE_NS;
  for (uint64_t number = 1; sent < (count > 0 ? end : latest) && count < SAMPLES_MOST; number++, sent = now_ns()) {
    memcpy(message, &number, sizeof number);
    if (send(fd, message, (size_t)o->bytes, 0) != o->bytes) die("send");
    int there;
    uint64_t answered = 0;
    // Answers to messages that were given up come late.
    do {
      there = read_whole(fd, answer, o->bytes);
      memcpy(&answered, answer, sizeof answered);
    } while (there && answered < number);
    const uint64_t took = now_ns() - sent;
    if (!there && (o->tcp || errno != EAGAIN)) die("recv");
    if (there && memcmp(answer, message, (size_t)o->bytes) != 0) errno = EPROTO, die("an answer");
    if (sent < counts_from) continue;
    if (there) samples[count++] = took > UINT32_MAX ? UINT32_MAX : (uint32_t)took;
    else lost++;
  }
  if (count == 0) errno = ETIMEDOUT, die("no answer");
  qsort(samples, count, sizeof *samples, compare);
  printf("{\"count\":%zu,\"lost\":%llu,\"p50\":%u,\"p99\":%u,\"p999\":%u,\"max\":%u}\n", count, (unsigned long long)lost,
         percentile(samples, count, 0.5), percentile(samples, count, 0.99), percentile(samples, count, 0.999),
         samples[count - 1]);
}

int main(int argc, char** argv) {
  const struct options o = options_of(argc, argv);
  const struct sched_param priority = {.sched_priority = PRIORITY};
  (void)mlockall(MCL_CURRENT | MCL_FUTURE);
  (void)sched_setscheduler(0, SCHED_FIFO, &priority);
  if (o.server) serve(&o);
  else ask(&o);
  return 0;
}
