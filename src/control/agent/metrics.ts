/** The backend agent's metrics. docs/backend-agent.md says the same for people. */
import { DECAP_OUTCOMES, DECAP_STATS } from '../bpf_layout.js';
import type { Scraped } from '../metrics/server.js';
import { labels, TextWriter } from '../metrics/text.js';
import { VERSION } from '../version.js';
import type { BackendAgent } from './agent.js';

export class AgentMetrics implements Scraped {
  readonly contentType = 'text/plain; version=0.0.4; charset=utf-8';

  constructor(private readonly agent: Pick<BackendAgent, 'stats' | 'hops' | 'missing'>) {}

  render(): Promise<Buffer> {
    const stats = this.agent.stats();
    const out = new TextWriter();
    out.family('sluice_backend_build_info', 'gauge', 'Always 1; the label says what runs.');
    out.sample(labels({ version: VERSION }), 1);
    out.family('sluice_backend_seen_packets_total', 'counter', 'Packets that came in on the interfaces, of any kind.');
    out.sample('', stats.seen);
    out.family('sluice_backend_packets_total', 'counter', 'Packets by what became of them; their sum is those seen.');
    for (const outcome of DECAP_OUTCOMES) out.sample(labels({ outcome }), stats[outcome]);
    out.family(
      'sluice_backend_local_packets_total',
      'counter',
      'Packets with a chain that stayed here, by the reason.',
    );
    for (const name of DECAP_STATS) {
      if (name.startsWith('local_')) out.sample(labels({ reason: name.slice('local_'.length) }), stats[name]);
    }
    out.family('sluice_backend_hop_packets_total', 'counter', 'Packets for other backends, by backend and result.');
    for (const { address, forwarded, unresolved } of this.agent.hops()) {
      out.sample(labels({ hop: address.text, result: 'forwarded' }), forwarded);
      out.sample(labels({ hop: address.text, result: 'unresolved' }), unresolved);
    }
    return Promise.resolve(out.finish());
  }

  missing(): string[] {
    return this.agent.missing();
  }
}
