#include "bpf_log.h"

#include <bpf/libbpf.h>
#include <stdarg.h>
#include <stdio.h>

#include <vector>

namespace sluice {
namespace {

thread_local BpfLog* collector = nullptr;

int Print(enum libbpf_print_level level, const char* format, va_list arguments) {
  if (level != LIBBPF_WARN || collector == nullptr) return 0;
  va_list again;
  va_copy(again, arguments);
  const int length = vsnprintf(nullptr, 0, format, arguments);
  if (length > 0) {
    std::vector<char> line(static_cast<size_t>(length) + 1);
    vsnprintf(line.data(), line.size(), format, again);
    collector->Append(std::string(line.data(), static_cast<size_t>(length)));
  }
  va_end(again);
  return length;
}

/// Text between two marks; "" unless both are there.
std::string Between(const std::string& text, const std::string& from, const std::string& to) {
  const size_t start = text.find(from);
  if (start == std::string::npos) return "";
  const size_t end = text.find(to, start + from.size());
  if (end == std::string::npos) return "";
  return text.substr(start + from.size(), end - start - from.size());
}

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  size_t at = 0;
  while (at < text.size()) {
    size_t end = text.find('\n', at);
    if (end == std::string::npos) end = text.size();
    if (end > at) lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

bool StartsWith(const std::string& text, const char* prefix) { return text.rfind(prefix, 0) == 0; }

}  // namespace

BpfLog::BpfLog() : outer_(collector) { collector = this; }
BpfLog::~BpfLog() { collector = outer_; }

void BpfLog::Install() { libbpf_set_print(Print); }

std::string BpfLog::VerifierLog() const {
  return Between(text_, "-- BEGIN PROG LOAD LOG --\n", "-- END PROG LOAD LOG --");
}

std::string BpfLog::Reason() const {
  const std::vector<std::string> verifier = Lines(VerifierLog());
  for (auto line = verifier.rbegin(); line != verifier.rend(); ++line) {
    if (!StartsWith(*line, "processed ") && !StartsWith(*line, "verification time") && !StartsWith(*line, "stack depth"))
      return *line;
  }
  const std::vector<std::string> all = Lines(text_);
  if (all.empty()) return "";
  return StartsWith(all.front(), "libbpf: ") ? all.front().substr(8) : all.front();
}

std::string BpfLog::FailedProgram() const {
  // "libbpf: prog 'NAME': BPF program load failed: Permission denied", libbpf 0.6 to 1.5.
  const size_t end = text_.find("': BPF program load failed");
  if (end == std::string::npos) return "";
  const size_t start = text_.rfind("prog '", end);
  return start == std::string::npos ? "" : text_.substr(start + 6, end - start - 6);
}

}  // namespace sluice
