/** What goes with each hash: Katran and GLB Director have their own fields, rows and keys. */
import type { HashFieldName } from '../../shared/config.js';
import type { Findings } from './findings.js';
import type { Path } from './problem.js';
import type { RecoveredService } from './schema.js';

/**
 * What Katran can hash: source and ports; without the source port (NO_SRC_PORT); the destination port alone
 * (DPORT_ONLY); and all of these without the destination port, as it does for VIPs of any port and of prefixes.
 */
const KATRAN_FIELDS: readonly (readonly HashFieldName[])[] = [
  ['src', 'sport', 'dport'],
  ['src', 'dport'],
  ['dport'],
  ['src', 'sport'],
  ['src'],
];
const DEFAULT_RING = 65537;

export function checkHash(service: RecoveredService, at: Path, findings: Findings): void {
  const { hash, hash_fields: fields, glb, ring_size: ringSize, backends } = service;
  if (fields !== undefined) checkFields(fields, [...at, 'hash_fields'], findings);
  if (glb !== undefined && hash !== undefined && hash !== 'glb') {
    findings.error([...at, 'glb'], 'goes with hash: glb only', 'Write hash: glb, or take the keys out.', 'key');
  }
  if (hash === 'katran' || hash === 'katran-v2') {
    const named = new Set(fields);
    const known = KATRAN_FIELDS.some((set) => set.length === named.size && set.every((field) => named.has(field)));
    if (fields !== undefined && !known && !findings.touched([...at, 'hash_fields'])) {
      findings.error(
        [...at, 'hash_fields'],
        `Katran does not hash ${fields.join(', ')}`,
        `It hashes ${KATRAN_FIELDS.map((set) => `[${set.join(', ')}]`).join(', ')}; hash: sluice takes any fields.`,
      );
    }
  }
  if (hash !== 'glb') return;
  if (fields?.includes('protocol')) {
    findings.error(
      [...at, 'hash_fields', fields.indexOf('protocol')],
      'GLB Director does not hash the protocol',
      'It hashes src, sport, dst and dport.',
    );
  }
  if (ringSize !== undefined && ringSize !== DEFAULT_RING) {
    findings.error([...at, 'ring_size'], "GLB's tables have 65536 rows, whatever is said here", 'Take the key out.');
  }
  const weights = backends?.map((backend) => backend?.weight).filter((weight) => weight !== undefined) ?? [];
  const odd = weights.findIndex((weight) => weight !== weights[0]);
  if (odd >= 0) {
    findings.warn(
      [...at, 'backends', odd, 'weight'],
      "GLB has no weights: with these the rows are not those of GLB's directors",
      'Leave weights out as long as directors serve beside sluice.',
    );
  }
}

function checkFields(fields: readonly (HashFieldName | undefined)[], at: Path, findings: Findings): void {
  if (fields.length === 0) findings.error(at, 'is an empty list', 'Leave the key out for the usual ones.');
  fields.forEach((field, i) => {
    if (field !== undefined && fields.indexOf(field) < i) findings.error([...at, i], `${field} is there twice`);
  });
}
