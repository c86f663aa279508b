#include "errno_error.h"

#include <errno.h>
#include <string.h>

#include <cstdlib>

namespace sluice {
namespace {

struct Remedy {
  /// nullptr: any system call.
  const char* syscall;
  int err;
  /// "%s" stands for the subject, at most once.
  const char* text;
};

// First match wins, so rows with a syscall stand before the general ones. Conditions as measured on Linux 6.18.
constexpr char kAnyCapability[] =
    "Run as root, or grant the capability it needs: CAP_NET_RAW, CAP_NET_ADMIN, CAP_BPF or CAP_IPC_LOCK.";

constexpr Remedy kRemedies[] = {
    // AF_XDP
    {"socket", EPERM, "AF_XDP sockets need CAP_NET_RAW: run as root or grant the capability."},
    {"socket", EAFNOSUPPORT, "The kernel has no AF_XDP: use Linux 5.10 or newer with CONFIG_XDP_SOCKETS=y."},
    {"bind", EBUSY,
     "Another AF_XDP socket holds %s: stop the other program (or the earlier instance, if it still runs), or choose "
     "another queue."},
    {"bind", ENODEV, "There is no such interface, or it is down or cannot do AF_XDP: check `ip link` for %s."},
    {"bind", ENETDOWN, "The interface is down: ip link set it up, then open %s again."},
    {"bind", EINVAL,
     "The queue is likely beyond the interface's queue count: see `ethtool -l`, choose a lower queue or add queues for "
     "%s."},
    {"bind", EOPNOTSUPP,
     "The driver of %s cannot do AF_XDP in the mode asked for: use mode \"copy\" or \"auto\"; zero-copy needs a driver "
     "such as ixgbe, i40e, ice or mlx5."},
    {"bind", EPERM, "AF_XDP sockets need CAP_NET_RAW: run as root or grant the capability."},
    {"setsockopt", ENOBUFS, "Locked memory is not enough: raise RLIMIT_MEMLOCK or grant CAP_IPC_LOCK."},
    {"setsockopt", ENOMEM, "The kernel found no memory for %s: use fewer frames or smaller rings."},
    {"setsockopt", EINVAL, "The kernel refused a size: chunks are 2048 or 4096 bytes and rings are powers of two."},
    {"setsockopt", EPERM, "Busy polling above the system's limits needs CAP_NET_ADMIN."},
    {"mmap", ENOMEM, "Not enough memory for %s: use fewer frames, or raise the memory limit of the process."},
    {"mmap", EAGAIN, "Locked memory is not enough for %s: raise RLIMIT_MEMLOCK or grant CAP_IPC_LOCK."},
    // TAP
    {"open", ENOENT, "%s is not there: load or build the driver it belongs to (for a TAP: modprobe tun)."},
    {"open", EACCES, "%s may not be opened: run as root, or give this user access to it."},
    {"open", EPERM, "%s may not be opened: run as root, or give this user access to it."},
    {"open", ENODEV, "The driver behind %s is not there (for a TAP: modprobe tun)."},
    {"TUNSETIFF", EPERM, "Making a TAP device needs CAP_NET_ADMIN: run as root or grant the capability."},
    {"TUNSETIFF", EBUSY, "%s is in use: it was made without IFF_MULTI_QUEUE, or another program holds it."},
    {"TUNSETIFF", EINVAL, "%s is not a multi-queue TAP device, or the name is not valid: choose another name."},
    {"TUNSETIFF", E2BIG, "%s has no queue left: close another user of the TAP device."},
    {"write", EIO, "The TAP device %s is down: ip link set it up."},
    // Links, namespaces, identity
    {"SIOCGIFINDEX", ENODEV, "There is no interface %s in this network namespace: see `ip link`."},
    {"setns", EPERM, "Entering a network namespace needs CAP_SYS_ADMIN: run as root."},
    {"setgroups", EPERM, "Changing the user needs CAP_SETGID: start as root."},
    {"setgid", EPERM, "Changing the user needs CAP_SETGID: start as root."},
    {"setuid", EPERM, "Changing the user needs CAP_SETUID: start as root."},
    // BPF
    {"bpf", EPERM, "BPF programs and maps need CAP_BPF and CAP_NET_ADMIN: run as root or grant both."},
    {"bpf", EACCES, "BPF programs and maps need CAP_BPF and CAP_NET_ADMIN, or the verifier refused: see verifierLog."},
    {"bpf", E2BIG, "The table is full or the value is too big for %s: raise the map's size."},
    // Any call
    {nullptr, EPERM, kAnyCapability},
    {nullptr, EACCES, kAnyCapability},
    {nullptr, ENODEV, "There is no such device: see `ip link` in this network namespace."},
    {nullptr, ENXIO, "The interface is gone: close, and open again once it is back."},
    {nullptr, ENETDOWN, "The interface is down or deleted: ip link set it up, or close and reopen when it is back."},
    {nullptr, EMFILE, "The process has no descriptor left: raise its limit (ulimit -n)."},
    {nullptr, ENFILE, "The system has no descriptor left: raise fs.file-max."},
    {nullptr, ENOMEM, "Not enough memory for %s: free some or ask for less."},
    {nullptr, ENOSYS, "The kernel lacks this call: use Linux 5.10 or newer."},
};

std::string Fill(const char* text, const std::string& subject) {
  std::string out(text);
  const size_t at = out.find("%s");
  if (at != std::string::npos) out.replace(at, 2, subject);
  return out;
}

}  // namespace

std::string ErrnoName(int err) {
  const char* name = strerrorname_np(std::abs(err));
  return name ? name : "E" + std::to_string(std::abs(err));
}

std::string RemedyFor(const char* syscall, int err, const std::string& subject) {
  err = std::abs(err);
  for (const Remedy& row : kRemedies) {
    if (row.err == err && (row.syscall == nullptr || strcmp(row.syscall, syscall) == 0)) return Fill(row.text, subject);
  }
  return "";
}

Napi::Error MakeErrnoError(Napi::Env env, int err, const char* syscall, const std::string& subject,
                           const std::string& remedy) {
  err = std::abs(err);
  const std::string code = ErrnoName(err);
  const char* words = strerrordesc_np(err);
  std::string message = std::string(syscall) + (subject.empty() ? "" : " " + subject) + ": " + code;
  if (words) message += std::string(", ") + words;
  Napi::Error error = Napi::Error::New(env, message);
  Napi::Object value = error.Value();
  value.Set("code", code);
  value.Set("errno", err);
  value.Set("syscall", syscall);
  value.Set("remedy", remedy.empty() ? RemedyFor(syscall, err, subject) : remedy);
  return error;
}

void ThrowErrno(Napi::Env env, int err, const char* syscall, const std::string& subject, const std::string& remedy) {
  MakeErrnoError(env, err, syscall, subject, remedy).ThrowAsJavaScriptException();
}

}  // namespace sluice
