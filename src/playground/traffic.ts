/** Traffic from the client and the attacker, from the outside: helper programs started in their namespaces. */
import type { ConnectionLoadOptions } from './connection_load.js';
import type { ConnectionProgress, ConnectionResult } from './connection_tally.js';
import type { HttpLoadOptions } from './http_load.js';
import type { HttpLoadProgress, HttpLoadResult } from './http_tally.js';
import type { Playground } from './netns.js';
import { compiledProgram, parseLine, type ChildProgram } from './process.js';
import type { Host } from './topology.js';
import type { UdpFloodOptions, UdpFloodResult } from './udp_flood.js';
import type { UdpProbeOptions, UdpProbeResult } from './udp_probe.js';

/** A helper that says nothing for so long is stuck. */
const STUCK_MS = 60_000;

function startHelper(playground: Playground, host: Host, program: string, options: object): ChildProgram {
  return playground.start(
    host.namespace,
    process.execPath,
    [compiledProgram(`playground/${program}`), JSON.stringify(options)],
    { label: `${program} on ${host.name}` },
  );
}

const HTTP_DEFAULTS = {
  mode: 'short',
  connections: 8,
  requests: 0,
  durationMs: 0,
  intervalMs: 0,
  timeoutMs: 5000,
  postBytes: 0,
} as const satisfies Partial<HttpLoadOptions>;

/** A running HTTP load. Ends by itself at its limit of requests or time, or by `stop()`. */
export class HttpLoad {
  /** The last progress that it reported. */
  progress: HttpLoadProgress = { type: 'progress', answered: 0, failed: 0, perBackend: {} };
  /** Rejects with SLUICE_STATE when the program fails. */
  readonly result: Promise<HttpLoadResult>;
  private readonly program: ChildProgram;

  constructor(
    playground: Playground,
    host: Host,
    options: Partial<HttpLoadOptions> & Pick<HttpLoadOptions, 'host' | 'port'>,
  ) {
    this.program = startHelper(playground, host, 'http_load', { ...HTTP_DEFAULTS, ...options });
    const limit = (options.durationMs ?? 0) + STUCK_MS;
    this.result = this.program.message<HttpLoadResult>((message) => message.type === 'result', limit);
    // Who awaits it gets the error; who does not yet must not bring the process down.
    this.result.catch(() => undefined);
    this.program.on('line', (line) => {
      const message = parseLine(line) as HttpLoadProgress | undefined;
      if (message?.type === 'progress') this.progress = message;
    });
  }

  /** What it counted so far. */
  snapshot(): Promise<HttpLoadResult> {
    const answer = this.program.message<HttpLoadResult>((message) => message.type === 'snapshot', 5000);
    this.program.send({ op: 'snapshot' });
    return answer;
  }

  /** Lets requests under way finish and returns the counts. */
  stop(): Promise<HttpLoadResult> {
    this.program.send({ op: 'stop' });
    return this.result;
  }
}

const CONNECTION_DEFAULTS = {
  held: 40,
  lifeMs: [1000, 3000],
  intervalMs: 75,
  shortPerSecond: 100,
  messageBytes: 32,
  timeoutMs: 3000,
  durationMs: 120_000,
} as const satisfies Partial<Record<keyof ConnectionLoadOptions, unknown>>;

/** Running connections to the TCP echo, held ones and short ones. Ends by itself at its time limit, or by `stop()`. */
export class ConnectionLoad {
  /** The last progress that it reported. */
  progress: ConnectionProgress = {
    type: 'progress',
    opened: { held: 0, short: 0 },
    met: { held: 0, short: 0 },
    broken: 0,
    answered: 0,
  };
  /** Rejects with SLUICE_STATE when the program fails. */
  readonly result: Promise<ConnectionResult>;
  private readonly program: ChildProgram;

  constructor(
    playground: Playground,
    host: Host,
    options: Partial<ConnectionLoadOptions> & Pick<ConnectionLoadOptions, 'host' | 'port'>,
  ) {
    const all = { ...CONNECTION_DEFAULTS, ...options };
    this.program = startHelper(playground, host, 'connection_load', all);
    this.result = this.program.message<ConnectionResult>(
      (message) => message.type === 'result',
      all.durationMs + STUCK_MS,
    );
    // Who awaits it gets the error; who does not yet must not bring the process down.
    this.result.catch(() => undefined);
    this.program.on('line', (line) => {
      const message = parseLine(line) as ConnectionProgress | undefined;
      if (message?.type === 'progress') this.progress = message;
    });
  }

  /** What it counted so far. */
  snapshot(): Promise<ConnectionResult> {
    const answer = this.program.message<ConnectionResult>((message) => message.type === 'snapshot', 5000);
    this.program.send({ op: 'snapshot' });
    return answer;
  }

  /** Lets every connection end as it should, and returns the counts. */
  stop(): Promise<ConnectionResult> {
    this.program.send({ op: 'stop' });
    return this.result;
  }
}

const FLOOD_DEFAULTS = {
  packets: 10_000,
  ratePerSecond: 20_000,
  sockets: 64,
  payloadBytes: 18,
} as const satisfies Partial<UdpFloodOptions>;

/** Sends exactly so many datagrams and returns when the kernel has accepted them all. */
export function udpFlood(
  playground: Playground,
  host: Host,
  options: Partial<UdpFloodOptions> & Pick<UdpFloodOptions, 'address' | 'port'>,
): Promise<UdpFloodResult> {
  const program = startHelper(playground, host, 'udp_flood', { ...FLOOD_DEFAULTS, ...options });
  return program.message<UdpFloodResult>((message) => message.type === 'result', STUCK_MS);
}

/** Many UDP flows with fixed source ports; `ask` tells which backend answers each. */
export class UdpProbe {
  private constructor(private readonly program: ChildProgram) {}

  static async start(
    playground: Playground,
    host: Host,
    options: Partial<UdpProbeOptions> & Pick<UdpProbeOptions, 'address' | 'port'>,
  ): Promise<UdpProbe> {
    const program = startHelper(playground, host, 'udp_probe', { flows: 1000, timeoutMs: 500, ...options });
    await program.message<{ type: string }>((message) => message.type === 'ready', 15_000);
    return new UdpProbe(program);
  }

  ask(): Promise<UdpProbeResult> {
    const answer = this.program.message<UdpProbeResult>((message) => message.type === 'probe', STUCK_MS);
    this.program.send({ op: 'probe' });
    return answer;
  }

  async close(): Promise<void> {
    await this.program.stop(1000);
  }
}
