#pragma once
// Owner of one mmap'ed area. Move-only; unmaps on destruction.

#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <utility>

namespace sluice {

class Mapping {
 public:
  static constexpr size_t kHugePage = size_t{2} << 20;

  Mapping() = default;
  ~Mapping() { reset(); }

  Mapping(Mapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)),
        huge_(std::exchange(other.huge_, false)) {}
  Mapping& operator=(Mapping&& other) noexcept {
    if (this != &other) {
      reset();
      data_ = std::exchange(other.data_, nullptr);
      size_ = std::exchange(other.size_, 0);
      huge_ = std::exchange(other.huge_, false);
    }
    return *this;
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  /// Part of a file or of a socket's rings, shared and populated. Invalid with errno set on failure.
  static Mapping Shared(int fd, size_t size, uint64_t offset) {
    return Map(size, MAP_SHARED | MAP_POPULATE, fd, static_cast<off_t>(offset), false);
  }

  /// Zeroed private memory, rounded up to whole pages; on 2 MiB pages when `huge` and there are enough, else on
  /// ordinary ones, with a wish for transparent huge ones. Invalid with errno set on failure.
  static Mapping Anonymous(size_t size, bool huge) {
    if (huge) {
      const size_t rounded = RoundUp(size, kHugePage);
      Mapping mapping = Map(rounded, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0, true);
      if (mapping.valid()) return mapping;
    }
    const size_t rounded = RoundUp(size, static_cast<size_t>(sysconf(_SC_PAGESIZE)));
    Mapping mapping = Map(rounded, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, false);
    // Without reserved huge pages the kernel may still make some as the memory is touched (transparent huge pages).
    if (huge && mapping.valid()) madvise(mapping.data_, mapping.size_, MADV_HUGEPAGE);
    return mapping;
  }

  bool valid() const { return data_ != nullptr; }
  uint8_t* data() const { return data_; }
  /// Bytes mapped: the size asked for, rounded up to whole pages.
  size_t size() const { return size_; }
  bool huge() const { return huge_; }

  void reset() {
    if (!data_) return;
    const int saved = errno;
    munmap(data_, size_);
    errno = saved;
    data_ = nullptr;
    size_ = 0;
  }

 private:
  static Mapping Map(size_t size, int flags, int fd, off_t offset, bool huge) {
    Mapping mapping;
    void* area = mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, fd, offset);
    if (area != MAP_FAILED) {
      mapping.data_ = static_cast<uint8_t*>(area);
      mapping.size_ = size;
      mapping.huge_ = huge;
    }
    return mapping;
  }

  static size_t RoundUp(size_t size, size_t unit) { return (size + unit - 1) / unit * unit; }

  uint8_t* data_ = nullptr;
  size_t size_ = 0;
  bool huge_ = false;
};

}  // namespace sluice
