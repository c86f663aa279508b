import { describe, expect, it } from 'vitest';
import { MetricsCollector } from '../../src/control/metrics/collector.js';
import { Counter } from '../../src/shared/layout.js';
import { fakeView } from '../support/fake_view.js';

/** A number of its own for each total, far from everything else that a scrape shows. */
const valueOf = (counter: number): number => 7_000_000_000 + counter;

async function samplesOfQueue1(): Promise<Map<string, number>> {
  const view = fakeView();
  const words = new Float64Array(view.counters.worker(1).block);
  for (let counter = 0; counter <= Counter.framesHeld; counter++) words[counter] = valueOf(counter);
  const text = String(await new MetricsCollector(() => view).render());
  const lines = text.split('\n').filter((line) => line.includes('queue="1"'));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]),
  );
}

describe('totals of a worker', () => {
  it.each([
    ['sluice_flow_moves_total', Counter.flowMoved],
    ['sluice_id_routed_packets_total', Counter.idRouted],
    ['sluice_id_unknown_packets_total', Counter.idUnknown],
    ['sluice_source_routed_flows_total', Counter.sourceRouted],
    ['sluice_icmp_error_packets_total', Counter.icmpErrors],
    ['sluice_icmp_echo_answers_total', Counter.echoAnswered],
    ['sluice_icmp_too_big_replies_total', Counter.tooBigReplies],
    ['sluice_icmp_limited_total', Counter.icmpLimited],
    ['sluice_mss_clamps_total', Counter.mssClamped],
    ['sluice_fragments_followed_total', Counter.fragmentsFollowed],
    ['sluice_fragments_held_total', Counter.fragmentsHeld],
    ['sluice_decapsulated_packets_total', Counter.decapsulated],
  ])('%s is read where it belongs', async (name, counter) => {
    expect((await samplesOfQueue1()).get(`${name}{queue="1"}`)).toBe(valueOf(counter));
  });

  it('are all shown, each once, but for what the sockets count better', async () => {
    const shown = [...(await samplesOfQueue1()).values()];
    const elsewhere: number[] = [
      Counter.rx,
      Counter.rxBytes,
      Counter.txBytes,
      // In seconds.
      Counter.sampledNs,
      // sluice_frames{owner="held"}
      Counter.framesHeld,
    ];
    for (let counter = 0; counter <= Counter.framesHeld; counter++) {
      const times = shown.filter((value) => value === valueOf(counter)).length;
      expect(times, `counter ${counter}`).toBe(elsewhere.includes(counter) ? 0 : 1);
    }
  });
});
