import type { Lab } from './lab.js';

/** Counts the packets that go through the steps from now on. */
export function countSteps(lab: Lab): () => number {
  let stepped = 0;
  const path = lab.path as unknown as { steps: (...of: unknown[]) => void };
  const original = path.steps.bind(lab.path);
  path.steps = (...of) => {
    stepped += of[2] as number;
    original(...of);
  };
  return () => stepped;
}
