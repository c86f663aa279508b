/** What changes between two configurations in the stages of mitigation: all of it is applied to the running workers. */
import type { Config } from '../../shared/config.js';
import { diffFields, diffNamed } from './diff_fields.js';

const CHALLENGE_KEYS = {
  mode: 'mode',
  above: 'above',
  below: 'below',
  hold: 'hold',
  scope: 'scope',
  connections: 'connections',
  lifetime: 'lifetime',
  sources: 'sources',
  maxPerSecond: 'max_per_second',
} as const;
const TCP_STATE_KEYS = {
  mode: 'mode',
  connections: 'connections',
  adopt: 'adopt',
  learn: 'learn',
  window: 'window',
} as const;
const TIMEOUT_KEYS = { fresh: 'fresh', open: 'open', closing: 'closing', closed: 'closed' } as const;
const FAIR_SHARE_KEYS = {
  rate: 'rate',
  share: 'share',
  prefixes4: 'prefixes4',
  prefixes6: 'prefixes6',
  columns: 'columns',
} as const;

export function diffMitigation(old: Config, next: Config, out: string[]): void {
  const { mitigation: before } = old;
  const { mitigation: after } = next;
  const texts = ({ allow }: Config): string[] => [
    ...allow.prefixes.map(({ text, length }) => `${text}/${length}`),
    ...allow.sets.map((name) => `set:${name}`),
  ];
  const [was, is] = [new Set(texts(old)), new Set(texts(next))];
  const added = [...is].filter((entry) => !was.has(entry));
  const removed = [...was].filter((entry) => !is.has(entry));
  if (added.length > 0) out.push(`allow: ${listed(added)} added`);
  if (removed.length > 0) out.push(`allow: ${listed(removed)} removed`);
  diffFields('mitigation.challenge', before.challenge, after.challenge, CHALLENGE_KEYS, out);
  diffFields('mitigation.tcp_state', before.tcpState, after.tcpState, TCP_STATE_KEYS, out);
  diffFields('mitigation.tcp_state.timeouts', before.tcpState.timeouts, after.tcpState.timeouts, TIMEOUT_KEYS, out);
  diffFields('mitigation.fair_share', before.fairShare, after.fairShare, FAIR_SHARE_KEYS, out);
  diffNamed('mitigation.limits', before.limits, after.limits, out);
}

function listed(entries: readonly string[]): string {
  return entries.length <= 3 ? entries.join(', ') : `${entries.slice(0, 2).join(', ')} and ${entries.length - 2} more`;
}
