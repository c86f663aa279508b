/** Backend processes, from the outside: started in their namespaces, asked for their counts. */
import type { DecapOptions } from '../control/agent/decapsulator.js';
import type { RawSettings } from '../control/agent/settings.js';
import type { BackendOptions, BackendStats } from './backend_process.js';
import type { Playground } from './netns.js';
import { compiledProgram, type ChildProgram } from './process.js';
import { HOST_INTERFACE, VIP4, VIP6, type Host, type Topology } from './topology.js';

/** Ports behind the VIP. */
export const HTTP_PORT = 80;
/** RFC 862: over UDP each datagram, over TCP each line. */
export const ECHO_PORT = 7;

const START_TIMEOUT_MS = 15_000;

export interface StartBackendOptions {
  /** Attach the decapsulator; default true. */
  decap?: boolean;
  /** Settings of the decapsulator other than its addresses; with second hop, `sources` has to have the other backends too. */
  decapOptions?: Partial<DecapOptions>;
  /** Goes on when this process ends (`Playground.keep`). */
  independent?: boolean;
}

export class Backend {
  private constructor(
    readonly host: Host,
    readonly program: ChildProgram,
  ) {}

  /** Starts it and waits until it serves. Throws SLUICE_STATE with its own words when it does not come up. */
  static start(topology: Topology, host: Host, options: StartBackendOptions = {}): Promise<Backend> {
    const decap = {
      interfaces: [HOST_INTERFACE],
      destinations: [host.address4, host.address6],
      sources: [topology.lb.address4, topology.lb.address6],
      ...options.decapOptions,
    };
    return Backend.launch(topology.playground, host, {
      decap: (options.decap ?? true) ? decap : null,
      independent: options.independent ?? false,
    });
  }

  /** The same with a whole agent, which keeps the hardware addresses of next hops known. `settings` but for the interface. */
  static startWithAgent(playground: Playground, host: Host, settings: RawSettings): Promise<Backend> {
    const agent = { interface: HOST_INTERFACE, ...settings };
    return Backend.launch(playground, host, { decap: null, agent, independent: false });
  }

  private static async launch(
    playground: Playground,
    host: Host,
    options: Pick<BackendOptions, 'decap' | 'agent' | 'independent'>,
  ): Promise<Backend> {
    const settings: BackendOptions = {
      name: host.name,
      vips: [VIP4, VIP6],
      httpPort: HTTP_PORT,
      echoPort: ECHO_PORT,
      ...options,
    };
    const program = playground.start(
      host.namespace,
      process.execPath,
      [compiledProgram('playground/backend_process'), JSON.stringify(settings)],
      { label: `backend ${host.name}` },
    );
    await program.message<{ type: string }>((message) => message.type === 'ready', START_TIMEOUT_MS);
    return new Backend(host, program);
  }

  stats(): Promise<BackendStats> {
    const answer = this.program.message<BackendStats>((message) => message.type === 'stats', 5000);
    this.program.send({ op: 'stats' });
    return answer;
  }
}

/** Starts one on every backend host of the topology, all at once. */
export function startBackends(topology: Topology, options: StartBackendOptions = {}): Promise<Backend[]> {
  return Promise.all(topology.backends.map((host) => Backend.start(topology, host, options)));
}
