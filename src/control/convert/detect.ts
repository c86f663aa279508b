/** Whose configuration a text is, by what only that one has. */
import type { ConvertInput } from './draft.js';

export const CONVERT_SOURCES = ['ipvs', 'katran', 'glb'] as const;
export type ConvertSource = (typeof CONVERT_SOURCES)[number];

const KATRAN = /\bkatran|^VIP:|^Vip's flags:|(^|\s)-(vf|rf|new_hc|quic_mapping|change_mac|list_\w+)\b/im;
const IPVS =
  /\bipvsadm\b|(^|\s)--?(add-s|fwmark-service|sctp-service|persistent|scheduler)|(^|\n)\s*-A\s.*\s-s\s+\w+|(^|\n)\s*-a\s.*\s-[gim]\b/;
/** Both have these, and mean the same by them. */
const EITHER = /(^|\n)\s*-[Aa]\s+-[tu]\s/;

/** null when it could be anything, or more than one of them. */
export function detectSource(inputs: readonly ConvertInput[]): ConvertSource | null {
  const found = new Set(inputs.map(({ text }) => sourceOf(text)));
  const [source] = found;
  return found.size === 1 ? source : null;
}

function sourceOf(text: string): ConvertSource | null {
  if (/^\ufeff?\s*\{/.test(text)) return 'glb';
  const katran = KATRAN.test(text);
  const ipvs = IPVS.test(text);
  if (katran !== ipvs) return katran ? 'katran' : 'ipvs';
  return !katran && EITHER.test(text) ? 'ipvs' : null;
}
