/**
 * Who owns which namespaces. Each playground writes a record before it makes its first namespace; the sweep removes
 * only what such a record names, and only when the process that wrote it is dead and did not ask to keep it.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { endProcesses, listNamespaces, namespacePids, run, startTime } from './system.js';

/** Parent of all run directories; only root can make them. */
export const RUN_ROOT = '/run/sluice-playground';

/** What a namespace of ours is called: the tag of its run, a dash, its role. */
const OWN_NAME = /^sl[0-9a-z]+(?:_\d+)?-[a-z][a-z0-9]{0,11}$/;

export interface OwnerRecord {
  tag: string;
  pid: number;
  /** Start time of that process, so that a recycled pid is not taken for it. */
  startTime: string;
  /** True: stays when its owner ends; removed by `sluice demo --clean` only. */
  kept: boolean;
  /** Full names. */
  namespaces: string[];
}

export function runDirectory(tag: string): string {
  return join(RUN_ROOT, tag);
}

/** Writes the record whole or not at all: a sweep may read it at any moment. */
export function writeOwner(record: OwnerRecord): void {
  const directory = runDirectory(record.tag);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const path = join(directory, 'owner.json');
  writeFileSync(`${path}.new`, JSON.stringify(record));
  renameSync(`${path}.new`, path);
}

function readOwner(tag: string): OwnerRecord | undefined {
  try {
    const record = JSON.parse(readFileSync(join(runDirectory(tag), 'owner.json'), 'utf8')) as OwnerRecord;
    return record.tag === tag && Array.isArray(record.namespaces) ? record : undefined;
  } catch {
    return undefined;
  }
}

/** Records of all runs on this machine. */
export function listOwners(): OwnerRecord[] {
  try {
    return readdirSync(RUN_ROOT)
      .map(readOwner)
      .filter((record) => record !== undefined);
  } catch {
    return [];
  }
}

export function ownerAlive(record: OwnerRecord): boolean {
  return startTime(record.pid) === record.startTime;
}

/**
 * Ends every process inside the record's namespaces, deletes them, and forgets the run. What is gone already is no error;
 * a namespace that cannot be deleted leaves the record in place for the next sweep.
 */
export function removeRun(record: OwnerRecord, graceMs: number): void {
  const present = new Set(listNamespaces());
  const ours = record.namespaces.filter((name) => OWN_NAME.test(name) && present.has(name));
  endProcesses(
    ours.flatMap((name) => namespacePids(name)).filter((pid) => pid !== process.pid),
    graceMs,
  );
  for (const name of ours) run('ip', ['netns', 'delete', name]);
  rmSync(runDirectory(record.tag), { recursive: true, force: true });
}

/**
 * Removes what runs left behind whose process is dead (SIGKILL, power cut of a container). With `kept`, also those that
 * were left up on purpose. Returns the tags that it removed. Runs of living processes are never touched.
 */
export function sweepStale(options: { kept?: boolean } = {}): string[] {
  const stale = listOwners().filter((record) => !ownerAlive(record) && (options.kept || !record.kept));
  for (const record of stale) removeRun(record, 500);
  return stale.map((record) => record.tag);
}
