/** The stages of mitigation in the whole data path, from YAML to verdict. */
import { describe, expect, it } from 'vitest';
import { Counter } from '../../src/shared/layout.js';
import { Lab } from '../support/lab.js';
import { PacketBuilder, TCP } from '../support/packet_builder.js';

const VIP = '198.51.100.10';
const VIP6 = '2001:db8:5::10';

function config(parts: string): string {
  return `
interfaces: [in0]
hash_key: a key of our own
services:
  - {name: web, vip: ${VIP}, port: 80, backends: [{address: 10.1.0.1}]}
  - {name: web6, vip: '${VIP6}', port: 80, backends: [{address: 10.1.0.1}]}
  - {name: dns, vip: ${VIP}, port: 53, protocol: udp, backends: [{address: 10.1.0.1}]}
${parts}`;
}

interface Fields {
  src?: string;
  dst?: string;
  sport?: number;
  dport?: number;
  flags?: number;
  seq?: number;
  ack?: number;
}

function tcp({ src = '203.0.113.9', dst = VIP, sport = 4000, dport = 80, flags = TCP.SYN, ...rest }: Fields = {}) {
  const builder = new PacketBuilder().ethernet();
  if (src.includes(':')) builder.ipv6({ src, dst: dst === VIP ? VIP6 : dst });
  else builder.ipv4({ src, dst });
  return builder.tcp({ sport, dport, flags, seq: 1000, ...rest }).build();
}

function udp({ src = '203.0.113.9', dst = VIP, sport = 4000, dport = 53 }: Fields = {}, payload = 20) {
  return new PacketBuilder().ethernet().ipv4({ src, dst }).udp({ sport, dport }).payload(payload).build();
}

/** What the challenge that came back wants: the number in its acknowledgement field. */
function cookieOf(frame: Uint8Array): number {
  const view = new DataView(frame.buffer, frame.byteOffset);
  return view.getUint32(view.getUint16(12) === 0x0800 ? 14 + 20 + 8 : 14 + 40 + 8);
}

const total = (run: { sent: Uint8Array[][] }): number => run.sent[0].length;

describe('the SYN challenge', () => {
  const on = config('mitigation: {challenge: {mode: always}}');

  it.each(['203.0.113.9', '2001:db8:77::9'])('asks %s once, and lets its connections through', (src) => {
    const lab = new Lab(on);
    const asked = lab.run([tcp({ src })]);
    expect(lab.total(Counter.tx)).toBe(1);
    expect(lab.total(Counter.challenges)).toBe(1);
    const answer = tcp({ src, flags: TCP.RST, seq: cookieOf(asked.sent[0][0]) });
    expect(lab.run([answer]).dropped).toHaveLength(1);
    expect(lab.drops()).toEqual({ challenge_answer: 1 });
    expect(total(lab.run([tcp({ src }), tcp({ src, sport: 4001 })]))).toBe(2);
    expect(lab.total(Counter.redirect) + lab.total(Counter.tx)).toBe(3);
    expect(lab.total(Counter.challengeAdmitted)).toBe(2);
    expect(lab.service(src.includes(':') ? 'web6' : 'web').packets).toBe(2);
  });

  it('leaves the host’s own traffic alone, and packets in the middle of flows', () => {
    const lab = new Lab(on);
    expect(lab.run([tcp({ dst: '10.0.0.2', dport: 22 }), tcp({ dport: 22 })]).passed).toHaveLength(2);
    expect(total(lab.run([tcp({ flags: TCP.ACK }), udp()]))).toBe(2);
    expect(lab.total(Counter.challenges)).toBe(0);
  });

  it('starts by itself for a service that is flooded, and for no other', () => {
    const lab = new Lab(config('mitigation: {challenge: {mode: auto, above: 100/s, below: 50/s, hold: 1s}}'));
    const flood = Array.from({ length: 50 }, (_, i) => tcp({ src: `203.0.${i}.1` }));
    lab.run(flood);
    // Ten in a tenth of a second are the rate: nine passed before.
    expect(lab.total(Counter.challenges)).toBe(41);
    lab.run([tcp({ src: '2001:db8:77::9' })]);
    expect(lab.total(Counter.challenges)).toBe(41);
    lab.nowMs += 100;
    lab.run([]);
    lab.stages.tick(lab.nowMs);
    expect(lab.total(Counter.challengeActive)).toBe(1);
    lab.nowMs += 2000;
    lab.stages.tick(lab.nowMs);
    expect(lab.total(Counter.challengeActive)).toBe(0);
    lab.run([tcp({ src: '203.0.113.77' })]);
    lab.run([tcp({ src: '203.0.113.78' })]);
    expect(lab.total(Counter.challenges)).toBe(41);
  });

  it('is had by rules with that action also when it is off', () => {
    const lab = new Lab(config('rules: [{name: ask, match: {src: 203.0.113.0/24, protocol: tcp}, action: challenge}]'));
    const asked = lab.run([tcp(), tcp({ src: '192.0.2.1' })]);
    expect(lab.total(Counter.challenges)).toBe(1);
    expect(lab.service('web').packets).toBe(1);
    const challenge = asked.sent[0].find((frame) => frame.length < 70)!;
    lab.run([tcp({ flags: TCP.RST, seq: cookieOf(challenge) }), tcp()]);
    expect(lab.drops()).toEqual({ challenge_answer: 1 });
    expect(lab.service('web').packets).toBe(2);
  });

  it('keeps who has answered over reloads that are about something else, and its counters over all', () => {
    const lab = new Lab(on);
    const asked = lab.run([tcp()]);
    lab.run([tcp({ flags: TCP.RST, seq: cookieOf(asked.sent[0][0]) })]);
    lab.adopt(config('mitigation: {challenge: {mode: always}}\nrules: [{name: a, match: {}, action: count}]'));
    lab.run([tcp()]);
    expect(lab.total(Counter.challengeAdmitted)).toBe(1);
    lab.adopt(config('mitigation: {challenge: {mode: always, lifetime: 30s}}'));
    lab.run([tcp()]);
    expect(lab.total(Counter.challenges)).toBe(2);
    expect(lab.total(Counter.challengeAdmitted)).toBe(1);
    lab.adopt(config(''));
    lab.run([tcp()]);
    expect(lab.total(Counter.challenges)).toBe(2);
    expect(lab.service('web').packets).toBe(2);
  });

  it('takes the answer that another node asked for, when both have the same hash_key of their own', () => {
    const [one, two] = [new Lab(on), new Lab(on)];
    const answer = (lab: Lab): Uint8Array => tcp({ flags: TCP.RST, seq: cookieOf(lab.run([tcp()]).sent[0][0]) });
    two.run([answer(one)]);
    expect(two.drops()).toEqual({ challenge_answer: 1 });
    // The key that everybody knows is not used.
    const usual = on.replace('hash_key: a key of our own', '');
    const [three, four] = [new Lab(usual), new Lab(usual)];
    four.run([answer(three)]);
    expect(four.drops()).toEqual({});
    expect(four.total(Counter.challengeFailed)).toBe(1);
  });
});

describe('out-of-state TCP', () => {
  const state = (more: string): string => config(`mitigation: {tcp_state: {connections: 1024, ${more}}}`);
  const floods = [TCP.ACK, TCP.RST, TCP.FIN | TCP.ACK, TCP.SYN | TCP.ACK].map((flags) => tcp({ sport: 9, flags }));

  it('drops what no connection accounts for, by name, and no packet of a connection', () => {
    const lab = new Lab(state('mode: mitigate, adopt: never'));
    lab.run([tcp(), tcp({ flags: TCP.ACK, seq: 1001 })]);
    lab.run(floods);
    expect(lab.drops()).toEqual({ tcp_not_found: 3, tcp_unexpected: 1 });
    lab.run([tcp({ flags: TCP.ACK, seq: 1001 + 2 ** 30 + 10 })]);
    expect(lab.drops()).toEqual({ tcp_not_found: 3, tcp_unexpected: 1, tcp_out_of_sequence: 1 });
    expect(lab.total(Counter.tcpOutOfSequence)).toBe(1);
    expect(lab.service('web').packets).toBe(2);
    lab.nowMs += 100;
    lab.stages.tick(lab.nowMs);
    expect(lab.total(Counter.connections)).toBe(1);
  });

  it('is about services only', () => {
    const lab = new Lab(state('mode: mitigate, adopt: never'));
    const host = [TCP.ACK, TCP.SYN | TCP.ACK].map((flags) => tcp({ dst: '10.0.0.2', dport: 40_000, flags }));
    expect(lab.run(host).passed).toHaveLength(2);
    expect(lab.total(Counter.tcpUnexpected)).toBe(0);
  });

  it('monitors, and mitigates after a reload with all that it has learnt; and the other way', () => {
    const lab = new Lab(state('mode: monitor, adopt: never'));
    expect(total(lab.run([tcp(), ...floods]))).toBe(5);
    expect(lab.total(Counter.tcpNotFound)).toBe(3);
    expect(lab.drops()).toEqual({});
    lab.adopt(state('mode: mitigate, adopt: never'));
    expect(total(lab.run([tcp({ flags: TCP.ACK, seq: 1001 }), ...floods]))).toBe(1);
    expect(lab.drops()).toEqual({ tcp_not_found: 3, tcp_unexpected: 1 });
    lab.adopt(config(''));
    expect(total(lab.run(floods))).toBe(4);
    expect(lab.total(Counter.tcpNotFound)).toBe(6);
  });

  it('learns for its time, and says that it does', () => {
    const lab = new Lab(state('mode: mitigate, learn: 1s'));
    lab.run([tcp({ flags: TCP.ACK })]);
    lab.nowMs += 500;
    lab.run([tcp({ flags: TCP.ACK, sport: 5 })]);
    expect(lab.total(Counter.tcpLearning)).toBe(1);
    lab.nowMs += 600;
    lab.run([tcp({ flags: TCP.ACK, sport: 6 }), tcp({ flags: TCP.ACK, sport: 5 })]);
    expect(lab.total(Counter.tcpLearning)).toBe(0);
    expect(lab.drops()).toEqual({ tcp_not_found: 1 });
  });

  it('has no connection for a SYN that is challenged', () => {
    const lab = new Lab(
      config('mitigation: {challenge: {mode: always}, tcp_state: {mode: mitigate, adopt: never, connections: 64}}'),
    );
    const asked = lab.run([tcp()]);
    lab.run([tcp({ flags: TCP.RST, seq: cookieOf(asked.sent[0][0]) })]);
    lab.run([tcp({ flags: TCP.ACK, seq: 1001 })]);
    expect(lab.drops()).toEqual({ challenge_answer: 1, tcp_not_found: 1 });
    expect(total(lab.run([tcp(), tcp({ flags: TCP.ACK, seq: 1001 })]))).toBe(2);
  });
});

describe('the allow list', () => {
  it('skips everything for its sources, and no others', () => {
    const lab = new Lab(
      config(`
allow: [203.0.113.0/28, '2001:db8:77::/48']
rules: [{name: all, match: {}, action: drop}]
mitigation: {challenge: {mode: always}, tcp_state: {mode: mitigate, adopt: never, connections: 64}, fair_share: {rate: 1/s}}`),
    );
    const allowed = ['203.0.113.9', '2001:db8:77::9'].flatMap((src) => [
      tcp({ src }),
      tcp({ src, flags: TCP.ACK }),
      tcp({ src, flags: TCP.SYN | TCP.ACK }),
    ]);
    expect(total(lab.run(allowed))).toBe(6);
    expect(lab.run(['203.0.113.16', '2001:db8:78::9'].map((src) => tcp({ src }))).dropped).toHaveLength(2);
    lab.adopt(config('allow: []\nrules: [{name: all, match: {}, action: drop}]'));
    expect(lab.run(allowed).dropped).toHaveLength(6);
  });
});
