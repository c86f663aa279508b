#pragma once
// Owner of one file descriptor. Move-only; closes on destruction.

#include <errno.h>
#include <unistd.h>

#include <utility>

namespace sluice {

class Fd {
 public:
  Fd() = default;
  /// Takes ownership of `fd`; a negative number means none.
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() { reset(); }

  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  explicit operator bool() const { return valid(); }

  /// Gives the descriptor up without closing it.
  int release() { return std::exchange(fd_, -1); }

  /// Closes what it holds and takes `fd`. Keeps errno, so that it may stand between a failed call and its report.
  /// EINTR is not retried: Linux has released the descriptor by then (close(2)).
  void reset(int fd = -1) {
    if (fd_ >= 0) {
      const int saved = errno;
      ::close(fd_);
      errno = saved;
    }
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

}  // namespace sluice
