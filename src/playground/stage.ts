/** Everything up and running: the little internet, its backends, and sluice in the middle. */
import { startBackends } from './backends.js';
import { Daemon } from './daemon.js';
import type { PlaygroundBackend } from './daemon_config.js';
import type { Playground } from './netns.js';
import type { Stage } from './scenes/scene.js';
import { buildTopology } from './topology.js';

/** Weights of the backends at the start: one of them counts double. */
export const WEIGHTS: readonly number[] = [1, 1, 2];

export interface StageOptions {
  /** Goes on when this process ends (`Playground.keep`). */
  independent?: boolean;
}

/** Throws what keeps it from coming up; closing the playground then removes the rest. */
export async function buildStage(playground: Playground, options: StageOptions = {}): Promise<Stage> {
  const topology = buildTopology(playground, { backends: WEIGHTS.length });
  const daemon = new Daemon(topology, options);
  const configured: PlaygroundBackend[] = topology.backends.map((host, i) => ({
    address: host.address4,
    weight: WEIGHTS[i],
  }));
  daemon.configure(configured);
  daemon.spawn();
  const [backends] = await Promise.all([startBackends(topology, options), daemon.ready()]);
  return {
    topology,
    daemon,
    backends,
    configured,
    shown: [{ name: topology.lb.name, sluice: daemon }],
    independent: options.independent ?? false,
  };
}
