#include "live_frames.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <time.h>

#include <algorithm>
#include <numeric>
#include <string>

namespace sluice {
namespace {

constexpr uint64_t kSecond = 1000000000;

/// How long one run may take, about: the load ends, stops and paces no finer than that. Setting a run up costs some 20 µs.
constexpr uint64_t kRunNs = 5000000;
/// Runs of a load with a rate are at least so much of it, so that not each frame is a run.
constexpr uint64_t kPaceNs = 500000;
/// What a load with a rate makes up for after it was held up; more is lost, and its rate falls short.
constexpr uint64_t kCatchUpNs = 20000000;
/// Frames of one kind in a row, by weight.
constexpr uint64_t kMixRun = 1024;
/// Taken for the time of a frame before there is any measurement.
constexpr double kFirstGuessNs = 1000;

uint64_t Now(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<uint64_t>(now.tv_sec) * kSecond + static_cast<uint64_t>(now.tv_nsec);
}

void SleepNs(uint64_t ns) {
  const timespec pause = {static_cast<time_t>(ns / kSecond), static_cast<long>(ns % kSecond)};
  nanosleep(&pause, nullptr);
}

}  // namespace

LiveRun::LiveRun(LiveLoad load) : load_(std::move(load)), sent_(load_.parts.size(), 0) {}

LiveRun::~LiveRun() {
  if (!started_) return;
  Stop();
  pthread_join(thread_, nullptr);
}

bool LiveRun::Start(SysError* error) {
  running_.store(true);
  // A signal that is pending ends a run with EINTR, and leaves open how far it came: the thread takes none.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  if (load_.cpu >= 0) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(load_.cpu, &set);
    pthread_attr_setaffinity_np(&attributes, sizeof(set), &set);
  }
  const int err = pthread_create(&thread_, &attributes, &Main, this);
  pthread_attr_destroy(&attributes);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (err != 0) {
    running_.store(false);
    const std::string subject = load_.cpu < 0 ? "sending thread" : "sending thread on CPU " + std::to_string(load_.cpu);
    *error = {err, "pthread_create", subject, err == EINVAL ? "There is no such CPU, or this process may not use it." : ""};
    return false;
  }
  // What top -H and perf show.
  pthread_setname_np(thread_, "sluice-gen");
  started_ = true;
  return true;
}

LiveProgress LiveRun::progress() const {
  // First: what the others say is then final, or one more run's at most.
  const bool running = running_.load(std::memory_order_acquire);
  LiveProgress progress;
  progress.packets = packets_.load(std::memory_order_relaxed);
  progress.runs = runs_.load(std::memory_order_relaxed);
  progress.cpu_ns = cpu_ns_.load(std::memory_order_relaxed);
  const uint64_t start_ns = start_ns_.load(std::memory_order_relaxed);
  progress.elapsed_ns = elapsed_ns_.load(std::memory_order_relaxed);
  if (running && start_ns != 0) progress.elapsed_ns = Now(CLOCK_MONOTONIC) - start_ns;
  progress.running = running;
  return progress;
}

void* LiveRun::Main(void* self) {
  auto* run = static_cast<LiveRun*>(self);
  if (run->Prepare()) {
    run->Loop();
    run->Publish(Now(CLOCK_MONOTONIC));
  }
  run->running_.store(false, std::memory_order_release);
  return nullptr;
}

bool LiveRun::Prepare() {
  for (LivePart& part : load_.parts) {
    if (!HoldXdp(part.program.get(), &part.hold, &error_)) return false;
  }
  return true;
}

void LiveRun::Publish(uint64_t now_ns) {
  elapsed_ns_.store(now_ns - start_ns_.load(std::memory_order_relaxed), std::memory_order_relaxed);
  cpu_ns_.store(Now(CLOCK_THREAD_CPUTIME_ID), std::memory_order_relaxed);
}

void LiveRun::Loop() {
  const uint64_t start = Now(CLOCK_MONOTONIC);
  start_ns_.store(start, std::memory_order_relaxed);
  const uint64_t deadline = start + load_.duration_ns;
  const double rate = load_.packets_per_second / static_cast<double>(kSecond);
  const uint64_t least = std::max<uint64_t>(1, static_cast<uint64_t>(rate * static_cast<double>(kPaceNs)));
  // The rate counts from here; moved on by what is not made up for.
  double origin = static_cast<double>(start);
  double frame_ns = kFirstGuessNs;
  uint64_t sent = 0;
  while (!stop_.load(std::memory_order_relaxed)) {
    const uint64_t now = Now(CLOCK_MONOTONIC);
    if (now >= deadline || (load_.packets != 0 && sent >= load_.packets)) return;
    const uint64_t time_left = std::min(kRunNs, deadline - now);
    uint64_t frames = std::max<uint64_t>(1, static_cast<uint64_t>(static_cast<double>(time_left) / frame_ns));
    if (load_.packets != 0) frames = std::min(frames, load_.packets - sent);
    if (rate > 0) {
      double due = (static_cast<double>(now) - origin) * rate - static_cast<double>(sent);
      const double most = std::max(rate * static_cast<double>(kCatchUpNs), 1.0);
      if (due > most) {
        origin += (due - most) / rate;
        due = most;
      }
      const uint64_t wanted = load_.packets == 0 ? least : std::min(least, load_.packets - sent);
      if (due < static_cast<double>(wanted)) {
        const auto wait = static_cast<uint64_t>((static_cast<double>(wanted) - due) / rate) + 1;
        SleepNs(std::min({wait, deadline - now, kRunNs}));
        continue;
      }
      frames = std::min(frames, static_cast<uint64_t>(due));
    }
    const size_t part = NextPart();
    if (load_.parts.size() > 1) frames = std::min(frames, kMixRun * load_.parts[part].weight);
    if (!RunOnce(part, frames)) return;
    sent = std::accumulate(sent_.begin(), sent_.end(), uint64_t{0});
    const uint64_t after = Now(CLOCK_MONOTONIC);
    const double took = static_cast<double>(after - now) / static_cast<double>(frames);
    // A run of few frames is mostly its setting up.
    if (frames >= load_.batch) frame_ns = std::max(1.0, (frame_ns + took) / 2);
    packets_.store(sent, std::memory_order_relaxed);
    runs_.fetch_add(1, std::memory_order_relaxed);
    Publish(after);
  }
}

size_t LiveRun::NextPart() const {
  size_t next = 0;
  for (size_t i = 1; i < sent_.size(); ++i) {
    if (sent_[i] * load_.parts[next].weight < sent_[next] * load_.parts[i].weight) next = i;
  }
  return next;
}

bool LiveRun::RunOnce(size_t index, uint64_t frames) {
  LivePart& part = load_.parts[index];
  // The kernel wants data_end to be the packet's length and data the length of metadata in front of it, here none.
  xdp_md context = {};
  context.data_end = static_cast<__u32>(part.frame.size());
  context.ingress_ifindex = load_.ifindex;
  LIBBPF_OPTS(bpf_test_run_opts, run);
  run.data_in = part.frame.data();
  run.data_size_in = static_cast<__u32>(part.frame.size());
  run.ctx_in = &context;
  run.ctx_size_in = sizeof(context);
  run.repeat = static_cast<int>(std::min<uint64_t>(frames, INT32_MAX));
  run.flags = BPF_F_TEST_XDP_LIVE_FRAMES;
  run.batch_size = load_.batch;
  const int err = bpf_prog_test_run_opts(part.program.get(), &run);
  if (err == 0) {
    sent_[index] += frames;
    return true;
  }
  // What SIGSTOP does, which no thread can block: the batch under way was sent, those after it were not.
  if (err == -EINTR && load_.counters) return Recount();
  error_ = {-err, "bpf", "live frames of " + std::to_string(part.frame.size()) + " bytes", ""};
  if (err == -EINVAL) error_.remedy = "Live frames need Linux 5.18, and a frame must fit one page with its headroom.";
  return false;
}

bool LiveRun::Recount() {
  bpf_map_info info = {};
  __u32 size = sizeof(info);
  std::vector<uint64_t> value;
  const __u32 key = 0;
  int err = bpf_obj_get_info_by_fd(load_.counters.get(), &info, &size);
  if (err == 0) {
    // Room for all counters, whatever the map's value has.
    value.resize(std::max(sent_.size(), size_t{info.value_size} / sizeof(uint64_t) + 1));
    err = bpf_map_lookup_elem(load_.counters.get(), &key, value.data());
  }
  if (err != 0) {
    error_ = {-err, "bpf", "counters of a load", ""};
    return false;
  }
  std::copy_n(value.begin(), sent_.size(), sent_.begin());
  return true;
}

}  // namespace sluice
