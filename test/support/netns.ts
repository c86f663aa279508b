/** Playgrounds for tests: whatever a test does, they are gone when it ends. */
import { onTestFinished } from 'vitest';
import { Playground } from '../../src/playground/netns.js';
import { buildTopology, type Topology, type TopologyOptions } from '../../src/playground/topology.js';

/** A playground that is removed when the current test finishes, passed or not. */
export function testPlayground(): Playground {
  const playground = new Playground();
  onTestFinished(() => playground.close());
  return playground;
}

/** The demo's little internet, for the current test. */
export function testTopology(options: TopologyOptions = {}): Topology {
  return buildTopology(testPlayground(), options);
}
