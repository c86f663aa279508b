// sluice-pcap: pcap-filter(7) expressions to cBPF, through libpcap, in a process of its own: what is compiled may come from
// anywhere, and libpcap was not made to read that.
//
// Standard input is a row of requests, standard output a row of answers in the same order, written as each is done, so that
// the answers before one that kills the process are not lost. Integers are little-endian.
//
//   request   length (uint32), that many bytes of expression
//   answer    status (uint32: 0 compiled, 1 error), length (uint32), that many bytes:
//             compiled: instructions of 8 bytes: code (uint16), jt, jf (uint8), k (uint32), as struct sock_filter
//             error: a sentence
//
//   sluice-pcap CPU_MS MEMORY_MIB      limits: CPU time of one expression (then SIGPROF ends the process), memory of all
//
// Exit code 0 at the end of input, 2 wrong arguments, 3 not confined, 4 input that ends inside a request.

#include <pcap/pcap.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "confine.h"
#include "names.h"

namespace sluice {
namespace {

/// Longest expression that is looked at; the caller has a lower limit. Longer ones are skipped and answered with an error.
constexpr uint32_t kTextMost = 64 << 10;
/// As tcpdump has it by default. Only the K of "ret #K" depends on it.
constexpr int kSnapLength = 262144;

bool ReadAll(void* to, size_t length) {
  auto* at = static_cast<char*>(to);
  while (length > 0) {
    const ssize_t got = read(STDIN_FILENO, at, length);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    at += got;
    length -= static_cast<size_t>(got);
  }
  return true;
}

bool WriteAll(const std::string& bytes) {
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t put = write(STDOUT_FILENO, bytes.data() + done, bytes.size() - done);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return false;
    done += static_cast<size_t>(put);
  }
  return true;
}

void Append(std::string* bytes, uint32_t value, int size) {
  for (int i = 0; i < size; i++) bytes->push_back(static_cast<char>(value >> (8 * i)));
}

bool Answer(uint32_t status, const std::string& body) {
  std::string bytes;
  Append(&bytes, status, 4);
  Append(&bytes, static_cast<uint32_t>(body.size()), 4);
  return WriteAll(bytes + body);
}

bool AnswerError(const std::string& text) { return Answer(1, text); }

/// The time that may pass before SIGPROF; 0 takes the limit away.
void LimitCpu(long ms) {
  const itimerval timer = {{0, 0}, {ms / 1000, (ms % 1000) * 1000}};
  setitimer(ITIMER_PROF, &timer, nullptr);
}

bool Compile(pcap_t* pcap, const std::string& text, long cpu_ms) {
  if (text.find('\0') != std::string::npos) return AnswerError("an expression has no NUL characters");
  bpf_program program = {};
  LimitCpu(cpu_ms);
  // Netmask 0, as tcpdump has it when it reads a file: "ip broadcast" then means all ones or all zeros.
  const int failed = pcap_compile(pcap, &program, text.c_str(), 1, 0);
  LimitCpu(0);
  if (failed != 0) return AnswerError(pcap_geterr(pcap));
  std::string body;
  body.reserve(program.bf_len * 8);
  for (unsigned i = 0; i < program.bf_len; i++) {
    const bpf_insn& insn = program.bf_insns[i];
    Append(&body, insn.code, 2);
    Append(&body, insn.jt, 1);
    Append(&body, insn.jf, 1);
    Append(&body, insn.k, 4);
  }
  pcap_freecode(&program);
  return Answer(0, body);
}

/// Reads and forgets.
bool Skip(uint32_t length) {
  char block[4096];
  for (; length > 0; length -= std::min<uint32_t>(length, sizeof block)) {
    if (!ReadAll(block, std::min<uint32_t>(length, sizeof block))) return false;
  }
  return true;
}

int Serve(long cpu_ms) {
  pcap_t* pcap = pcap_open_dead(DLT_EN10MB, kSnapLength);
  if (pcap == nullptr) return 3;
  for (;;) {
    unsigned char head[4];
    const ssize_t first = read(STDIN_FILENO, head, 1);
    if (first < 0 && errno == EINTR) continue;
    if (first <= 0) break;
    if (!ReadAll(head + 1, 3)) return 4;
    const uint32_t length = head[0] | head[1] << 8 | head[2] << 16 | static_cast<uint32_t>(head[3]) << 24;
    if (length > kTextMost) {
      if (!Skip(length)) return 4;
      if (!AnswerError("longer than 64 KiB")) return 0;
      continue;
    }
    std::string text(length, '\0');
    if (!ReadAll(&text[0], length)) return 4;
    if (!Compile(pcap, text, cpu_ms)) return 0;
  }
  pcap_close(pcap);
  return 0;
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  const long cpu_ms = argc == 3 ? strtol(argv[1], nullptr, 10) : 0;
  const long memory_mib = argc == 3 ? strtol(argv[2], nullptr, 10) : 0;
  if (cpu_ms <= 0 || memory_mib <= 0) {
    fputs("usage: sluice-pcap CPU_MS MEMORY_MIB\n", stderr);
    return 2;
  }
  sluice::ReadNames();
  if (!sluice::Confine(static_cast<size_t>(memory_mib) << 20)) {
    perror("sluice-pcap: cannot limit itself");
    return 3;
  }
  return sluice::Serve(cpu_ms);
}
