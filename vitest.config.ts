import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

/**
 * Tests in namespaces that measure the machine or look at all of it (its CPU time, the programs and namespaces that are there), so that
 * another test would disturb them. All others wait more than they compute, and run two at a time.
 */
const ALONE = [
  'daemon_lifecycle',
  'daemon_mitigation',
  'daemon_offload',
  'demo',
  'library_port',
  'limits_worker_lost',
].map((name) => `test/netns/${name}.test.ts`);

/** How long `expect.poll` waits for what must come: a bound for what never comes, not for how quick a machine is. */
const POLL_MS = 15_000;

interface Tier {
  include?: string[];
  exclude?: string[];
  /** Test files at a time. Vitest's own default leaves one CPU out: one at a time where there are two. */
  files: number;
  timeoutMs: number;
  /** Projects with a lower number run first, when several are asked for. */
  order: number;
}

/** One project a tier, by what it needs: unit (nothing), native (the addon, root), bpf (root), netns and alone (root, veth). */
function tier(name: string, { include, exclude, files, timeoutMs, order }: Tier) {
  return {
    test: {
      name,
      include: include ?? [`test/${name}/**/*.test.ts`],
      exclude: exclude ?? [],
      pool: 'forks' as const,
      maxWorkers: files,
      sequence: { groupOrder: order },
      testTimeout: timeoutMs,
      hookTimeout: timeoutMs,
      expect: { poll: { timeout: POLL_MS } },
    },
  };
}

export default defineConfig({
  test: {
    projects: [
      tier('unit', { files: availableParallelism(), timeoutMs: 20_000, order: 0 }),
      tier('native', { files: 1, timeoutMs: 30_000, order: 1 }),
      tier('bpf', { files: 2, timeoutMs: 30_000, order: 2 }),
      tier('netns', { exclude: ALONE, files: 2, timeoutMs: 120_000, order: 3 }),
      tier('alone', { include: ALONE, files: 1, timeoutMs: 120_000, order: 4 }),
    ],
    coverage: { include: ['src/**/*.ts'], provider: 'v8' },
  },
});
