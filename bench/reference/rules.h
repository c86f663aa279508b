// Rules and the index that finds them: src/dataplane/filter/rules.ts, rule_index.ts, rule_fields.ts. Records of fields that drop or count, without
// probabilities, programs, sets, limits and samples, for IPv4 with ports.

#pragma once

#include <vector>

#include "lpm.h"
#include "packet.h"

constexpr uint32_t kRuleHeader = 4, kRuleStride = 48, kIndexLeast = 4;
enum RuleField {
  kRuleFields,
  kRuleAction,
  kRuleId,
  kRuleFamily,
  kRuleProtocol,
  kRuleSrc0,
  kRuleSrcMask0 = 9,
  kRuleDst0 = 13,
  kRuleDstMask0 = 17,
  kRuleSportFirst = 21,
  kRuleSportLast,
  kRuleDportFirst,
  kRuleDportLast,
  kRuleFlags = 32,
  kRuleThreshold
};
enum RuleMatch { kMatchFamily = 1, kMatchProtocol = 2, kMatchSrc = 4, kMatchDst = 8, kMatchSport = 16, kMatchDport = 32 };
enum RuleAction { kRuleDrop = 1, kRulePass = 2, kRuleCount = 3 };
/** src/shared/rule_layout.ts: RuleIndexHeader. */
enum IndexWord {
  kSummaryWords,
  kRowWords,
  kRecords,
  kAllRow,
  kProtocols,
  kSourcePorts,
  kDestinationPorts,
  kSourcePortRows,
  kDestinationPortRows,
  kSrc4Rows,
  kDst4Rows = 11
};

class Rules {
 public:
  /** Words as the control plane publishes them; `src4` and `dst4` null where no rule asks for such an address. */
  Rules(const int32_t* rules, const int32_t* index, const int32_t* src4, const int32_t* dst4, double* counters)
      : rules_(rules),
        index_(index),
        halves_(reinterpret_cast<const uint16_t*>(index)),
        src4_(src4),
        dst4_(dst4),
        counters_(counters),
        count_(static_cast<uint32_t>(rules[0])),
        pending_((count_ + 31) / 32),
        pending_words_((count_ + 1023) / 1024) {}

  /** RuleAction of the rule that decides, 0: none. */
  int Match(const Packet& p) {
    hit_id_ = -1;
    if (count_ >= kIndexLeast) return Search(p);
    for (uint32_t record = 0; record < count_; record++) {
      if (const int decision = Ask(record, p)) return decision;
    }
    return 0;
  }

 private:
  int Search(const Packet& p) {
    if (p.family != 4 || !(p.flags & kHasPorts)) Unexpected("rules for packets without ports, or IPv6");
    const int32_t* w = index_;
    const int32_t row_words = w[kRowWords];
    const int32_t* protocol = w + w[w[kProtocols] + 1 + p.protocol];
    const int32_t* sport = w + w[kSourcePortRows];
    const int32_t* dport = w + w[kDestinationPortRows];
    const int32_t* src = w + w[kSrc4Rows];
    const int32_t* dst = w + w[kDst4Rows];
    if (w[kSourcePorts] != 0) sport += halves_[w[kSourcePorts] * 2 + (p.ports >> 16)] * row_words;
    if (w[kDestinationPorts] != 0) dport += halves_[w[kDestinationPorts] * 2 + (p.ports & 0xffff)] * row_words;
    if (src4_) src += (LookUpLpm4(src4_, p.src[0]) + 1) * row_words;
    if (dst4_) dst += (LookUpLpm4(dst4_, p.dst[0]) + 1) * row_words;
    const int32_t summary_words = w[kSummaryWords];
    const int32_t* records = w + w[kRecords];
    int32_t only = -1;
    bool several = false;
    for (int32_t s = 0; s < summary_words; s++) {
      uint32_t summary = static_cast<uint32_t>(protocol[s] & sport[s] & dport[s] & src[s] & dst[s]);
      for (; summary != 0; summary &= summary - 1) {
        const int32_t word = s * 32 + __builtin_ctz(summary);
        const int32_t at = summary_words + word;
        uint32_t bits = static_cast<uint32_t>(protocol[at] & sport[at] & dport[at] & src[at] & dst[at]);
        for (; bits != 0; bits &= bits - 1) {
          const int32_t record = records[word * 32 + __builtin_ctz(bits)];
          if (only < 0) {
            only = record;
          } else if (record != only || several) {
            if (!several) Pend(static_cast<uint32_t>(only));
            several = true;
            Pend(static_cast<uint32_t>(record));
          }
        }
      }
    }
    if (several) return AskPending(p);
    return only < 0 ? 0 : Ask(static_cast<uint32_t>(only), p);
  }

  void Pend(uint32_t record) {
    pending_[record / 32] |= 1u << (record & 31);
    pending_words_[record / 1024] |= 1u << ((record / 32) & 31);
  }

  /** In order, until one decides; leaves none pending. */
  int AskPending(const Packet& p) {
    int decision = 0;
    for (size_t s = 0; s < pending_words_.size(); s++) {
      uint32_t summary = pending_words_[s];
      pending_words_[s] = 0;
      for (; summary != 0; summary &= summary - 1) {
        const uint32_t word = static_cast<uint32_t>(s) * 32 + static_cast<uint32_t>(__builtin_ctz(summary));
        uint32_t bits = pending_[word];
        pending_[word] = 0;
        for (; bits != 0 && decision == 0; bits &= bits - 1) {
          decision = Ask(word * 32 + static_cast<uint32_t>(__builtin_ctz(bits)), p);
        }
      }
    }
    return decision;
  }

  /** Compares one record, counts, acts. */
  int Ask(uint32_t record, const Packet& p) {
    const int32_t* r = rules_ + kRuleHeader + record * kRuleStride;
    if (!MatchesFields(r, p)) return 0;
    const int32_t id = r[kRuleId];
    if (id == hit_id_) return 0;
    hit_id_ = id;
    if (r[kRuleThreshold] != 0 || r[kRuleFlags] != 0) Unexpected("rules with a probability, or in shadow mode");
    double* counter = counters_ + id * 4;
    const double bytes = static_cast<double>(p.end - p.data);
    counter[0]++;
    counter[1] += bytes;
    if (r[kRuleAction] == kRuleCount) return 0;
    if (r[kRuleAction] > kRulePass) Unexpected("rules that do more than count, pass and drop");
    if (r[kRuleAction] == kRuleDrop) {
      counter[2]++;
      counter[3] += bytes;
    }
    return r[kRuleAction];
  }

  static bool MatchesFields(const int32_t* r, const Packet& p) {
    const int32_t fields = r[kRuleFields];
    if (fields > 63) Unexpected("rules for more than addresses, ports and protocols");
    if ((fields & kMatchFamily) && p.family != r[kRuleFamily]) return false;
    if ((fields & kMatchProtocol) && p.protocol != static_cast<uint32_t>(r[kRuleProtocol])) return false;
    if (fields != 0 && p.family == 0) return false;
    if (fields & kMatchDport) {
      const int32_t port = static_cast<int32_t>(p.ports & 0xffff);
      if (port < r[kRuleDportFirst] || port > r[kRuleDportLast]) return false;
    }
    if (fields & kMatchSport) {
      const int32_t port = static_cast<int32_t>(p.ports >> 16);
      if (port < r[kRuleSportFirst] || port > r[kRuleSportLast]) return false;
    }
    if ((fields & (kMatchSport | kMatchDport)) && !(p.flags & kHasPorts)) return false;
    if ((fields & kMatchSrc) && !Within(r, kRuleSrc0, kRuleSrcMask0, p.src[0])) return false;
    return !(fields & kMatchDst) || Within(r, kRuleDst0, kRuleDstMask0, p.dst[0]);
  }

  /** Of IPv4 the other three words are zero on both sides. */
  static bool Within(const int32_t* r, int value, int mask, uint32_t address) {
    return ((address ^ static_cast<uint32_t>(r[value])) & static_cast<uint32_t>(r[mask])) == 0;
  }

  const int32_t *rules_, *index_;
  const uint16_t* halves_;
  const int32_t *src4_, *dst4_;
  double* counters_;
  uint32_t count_;
  /** Records to ask, a bit each, and the words of it that are not 0. */
  std::vector<uint32_t> pending_, pending_words_;
  int32_t hit_id_ = -1;
};
