import { defineConfig } from 'vitest/config';

/** One project a tier, by what it needs: unit (nothing), native (the addon, root), bpf (root), netns (root, veth). */
function tier(name: string, privileged: boolean, testTimeout: number) {
  return {
    test: {
      name,
      include: [`test/${name}/**/*.test.ts`],
      pool: 'forks' as const,
      // Privileged tests share the machine's interfaces and two cores: one file at a time.
      fileParallelism: !privileged,
      testTimeout,
      hookTimeout: testTimeout,
    },
  };
}

export default defineConfig({
  test: {
    projects: [
      tier('unit', false, 20_000),
      tier('native', true, 30_000),
      tier('bpf', true, 30_000),
      tier('netns', true, 120_000),
    ],
    coverage: { include: ['src/**/*.ts'], provider: 'v8' },
  },
});
