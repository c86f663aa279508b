/** The sluice under show, on lb of the little internet. */
import { configText, type PlaygroundConfig } from './daemon_config.js';
import { SluiceProcess, type SluiceProcessOptions } from './sluice_process.js';
import type { Topology } from './topology.js';

const METRICS_PORT = 9477;

export class Daemon extends SluiceProcess {
  constructor(
    private readonly topology: Topology,
    options: SluiceProcessOptions = {},
  ) {
    const files = { config: 'sluice.yaml', control: 'control.sock', log: 'sluice.log' };
    super(topology.playground, topology.lb, files, options);
  }

  /** Writes the configuration file; takes effect with `spawn` or `reload`. */
  configure(backends: PlaygroundConfig['backends'], offload?: PlaygroundConfig['offload']): void {
    const config = { backends, offload, metricsPort: METRICS_PORT, controlSocket: this.controlSocket };
    this.writeConfig(configText(this.topology, config));
  }
}
