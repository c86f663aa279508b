import { releaseTable } from '../../shared/limits/key_table.js';
import { releaseLocks } from '../../shared/limits/lock.js';
import { BucketWord } from '../../shared/limits/shared_bucket.js';
import type { LimitSpec, Tables } from '../../shared/layout.js';

/** Frees the locks in shared limits that a worker held which is gone. Call before its successor starts. Returns how many. */
export function releaseMitigation(tables: Tables, worker: number): number {
  const { workers, limits, connLimits } = tables.mitigation;
  const position = workers.indexOf(worker);
  if (position < 0) return 0;
  let freed = 0;
  for (const limit of [...tables.limits, ...(limits?.limits ?? [])]) freed += releaseLimit(limit, position);
  for (const { shared } of connLimits) freed += releaseTable(shared.table, position);
  return freed;
}

function releaseLimit(limit: LimitSpec, position: number): number {
  if (limit.kind === 'hash') return releaseTable(limit.shared.table, position);
  return releaseLocks(new Int32Array(limit.shared.bucket), position + 1, BucketWord.lock, 1, 1);
}
