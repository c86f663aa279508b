#pragma once
// What libbpf prints, caught instead of written to stderr.

#include <string>

namespace sluice {

/// Collects libbpf's warnings on this thread from construction to destruction. They nest: the innermost collects. What
/// is printed while none exists is discarded.
///
/// libbpf has one print callback a process and gives it no context, so the way from the callback to the collector is
/// a thread-local pointer: the one mutable static of the addon.
class BpfLog {
 public:
  BpfLog();
  ~BpfLog();
  BpfLog(const BpfLog&) = delete;
  BpfLog& operator=(const BpfLog&) = delete;

  /// Sends libbpf's output here instead of to stderr, for the whole process. Repeated calls do nothing.
  static void Install();

  /// Everything, with libbpf's "libbpf: " prefixes as they were.
  const std::string& text() const { return text_; }
  /// The verifier's own log when there is one, else "".
  std::string VerifierLog() const;
  /// The verifier's reason: the last line of its log that is not statistics; without a log, libbpf's first warning.
  std::string Reason() const;
  /// Name of the program that failed to load, else "".
  std::string FailedProgram() const;

  void Append(const std::string& line) { text_ += line; }

 private:
  std::string text_;
  BpfLog* outer_;
};

}  // namespace sluice
