/** From the schema's output to the configuration that the control plane reads. */
import type { LimitConfig, MitigationConfig } from '../../shared/mitigation_config.js';
import { normaliseMatch } from './normalise_rule.js';
import type { RulePrograms } from './rule_programs.js';
import { normaliseLimit } from './schema_limit.js';
import type { RawLimitEntry, RawMitigation } from './schema_mitigation.js';

/** Prefixes with open connections, and keys with a rate, that are remembered unless the configuration says otherwise. */
const DEFAULT_MAX = 65536;

export function normaliseMitigation(raw: RawMitigation, programs: RulePrograms): MitigationConfig {
  const { max_per_second: maxPerSecond, ...challenge } = raw.challenge;
  return {
    challenge: { ...challenge, maxPerSecond },
    tcpState: raw.tcp_state,
    fairShare: raw.fair_share,
    limits: raw.limits.map((entry) => limitOf(entry, programs)),
  };
}

/** The checks have seen to it that there is a rate or a number of connections. */
function limitOf({ name, match, connections, ...limit }: RawLimitEntry, programs: RulePrograms): LimitConfig {
  if (connections === undefined) {
    const { rate } = limit;
    return {
      name,
      kind: 'rate',
      match: normaliseMatch(match ?? {}, programs),
      limit: normaliseLimit({ ...limit, rate: rate! }),
    };
  }
  const bySource = !limit.per.includes('dst');
  return {
    name,
    kind: 'connections',
    connections,
    side: bySource ? 'source' : 'destination',
    mask4: (bySource ? limit.src_mask : limit.dst_mask) ?? 32,
    mask6: (bySource ? limit.src_mask6 : limit.dst_mask6) ?? 128,
    max: limit.max ?? DEFAULT_MAX,
  };
}
