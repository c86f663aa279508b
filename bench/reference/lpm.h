// Longest-prefix match of IPv4: src/shared/lpm_lookup.ts, which says how the words are laid out.

#pragma once

#include <cstdint>

constexpr uint32_t kLpmHeader = 8, kLpmNode = 4, kLpmRunShift = 25, kLpmRunStart = 0x1ffffff, kLpmPayload = 0x3fffffff;
enum LpmHeaderWord { kLpmRootBits = 1, kLpmIntervals = 2 };
enum LpmNodeWord { kLpmPosition, kLpmBits, kLpmFirst, kLpmLast };

/** Value of the longest prefix that holds the address, -1: none. */
inline int32_t LookUpLpm4(const int32_t* words, uint32_t address) {
  const int32_t key = static_cast<int32_t>(address ^ 0x80000000u);
  const int32_t* intervals = words + words[kLpmIntervals];
  int32_t entry = words[kLpmHeader + (address >> (32 - words[kLpmRootBits]))];
  while (entry < 0) {
    const int32_t* node = words + (entry & 0x7fffffff);
    const int32_t first = node[kLpmFirst];
    if (first >= 0) {
      const int32_t last = node[kLpmLast];
      if (intervals[first * 2] > key) return intervals[first * 2 - 1];
      if (intervals[last * 2] <= key) return intervals[last * 2 + 1];
    }
    entry = node[kLpmNode + ((address << node[kLpmPosition]) >> (32 - node[kLpmBits]))];
  }
  if (entry >= 0x40000000) return static_cast<int32_t>(entry & kLpmPayload) - 1;
  const int32_t* at = intervals + (entry & kLpmRunStart) * 2;
  for (uint32_t left = static_cast<uint32_t>(entry) >> kLpmRunShift; left > 0 && at[2] <= key; left--) at += 2;
  return at[1];
}
