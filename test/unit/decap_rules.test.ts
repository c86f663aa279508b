import { describe, expect, it } from 'vitest';
import { decapsulate } from '../../src/dataplane/packet/decap.js';
import { DecapRules } from '../../src/dataplane/packet/decap_rules.js';
import { DropReason } from '../../src/dataplane/verdict.js';
import { parseAddress, parsePrefix } from '../../src/shared/addr.js';
import { PacketBuilder, PROTO } from '../support/packet_builder.js';
import { bytesOf, parsed } from '../support/packets.js';
import { frameOf, katranVectors, NO_VECTORS } from '../support/vectors.js';

const ETHERNET = () => new PacketBuilder().ethernet();
const inner4 = { src: '192.0.2.1', dst: '198.51.100.10' };
const outer4 = { src: '10.0.0.2', dst: '10.0.0.11' };
const outer6 = { src: 'fd00::2', dst: 'fd00::11' };

function rules(addresses: string[], sources: string[], guePorts = [6080]): DecapRules {
  return new DecapRules({
    addresses: addresses.map(parseAddress).map(({ family, words }) => ({ family, words: [...words] })),
    sources: sources.map(parsePrefix).map(({ family, words, length }) => ({ family, words: [...words], length })),
    guePorts,
  });
}

describe('DecapRules', () => {
  const ours = rules(['10.0.0.11', 'fd00::11'], ['10.0.0.0/30', 'fd00::/64'], [6080, 9886]);
  const packetOf = (builder: PacketBuilder) => parsed(builder.build());

  it('call IP in IP and GUE to our addresses ours, and nothing else', () => {
    const yes: PacketBuilder[] = [
      ETHERNET().ipv4(outer4).ipv4(inner4).udp({}),
      ETHERNET().vlan(7).ipv6(outer6).ipv6().udp({}),
      ETHERNET().ipv4(outer4).udp({ dport: 6080 }),
      ETHERNET().ipv6(outer6).udp({ dport: 9886 }),
      ETHERNET()
        .ipv4({ ...outer4, fragmentOffset: 9, protocol: 4 })
        .payload(40),
      ETHERNET().ipv6(outer6).extension(PROTO.DSTOPTS).ipv4(inner4).udp({}),
    ];
    for (const builder of yes) expect(ours.isOurs(packetOf(builder))).toBe(true);
    const no: PacketBuilder[] = [
      ETHERNET().ipv4(outer4).udp({ dport: 6081 }),
      ETHERNET().ipv4(outer4).tcp({ dport: 6080 }),
      ETHERNET()
        .ipv4({ ...outer4, dst: '10.0.0.12' })
        .ipv4(inner4)
        .udp({}),
      ETHERNET()
        .ipv6({ ...outer6, dst: 'fd00::12' })
        .ipv4(inner4)
        .udp({}),
      ETHERNET()
        .ipv4({ ...outer4, options: [1, 1, 1, 0] })
        .udp({ dport: 6080 }),
      ETHERNET().ipv6(outer6).extension(PROTO.DSTOPTS).udp({ dport: 6080 }),
      ETHERNET()
        .ipv4({ ...outer4, fragmentOffset: 9, protocol: 17 })
        .payload([195, 80, 23, 192, 0, 48, 0, 0]),
    ];
    for (const builder of no) expect(ours.isOurs(packetOf(builder))).toBe(false);
  });

  it('admit the sources that they name', () => {
    const from = (src: string) =>
      ours.admits(packetOf(src.includes(':') ? ETHERNET().ipv6({ src }).udp({}) : ETHERNET().ipv4({ src }).udp({})));
    expect(['10.0.0.0', '10.0.0.3', 'fd00::ffff:1'].map(from)).toEqual([true, true, true]);
    expect(['10.0.0.4', '192.0.2.1', 'fd00:0:0:1::1'].map(from)).toEqual([false, false, false]);
    const anybody = rules(['10.0.0.11'], ['0.0.0.0/0']);
    expect(anybody.admits(packetOf(ETHERNET().ipv4().udp({})))).toBe(true);
    expect(anybody.admits(packetOf(ETHERNET().ipv6().udp({})))).toBe(false);
    expect([ours.active, rules([], ['10.0.0.0/8']).active]).toEqual([true, false]);
  });
});

/** Addresses that Katran's tests for inline decapsulation take packets off at. */
const XPOP = ['fc00:1404::1', 'fc00:2307::1337'];

describe('inline decapsulation of the Katran fixtures', () => {
  const vectors = katranVectors();
  const accepted = rules(XPOP, ['100::64'], [9886]);

  it('gives the packets of xpop_decap as they are balanced, passed or dropped', ({ skip }) => {
    skip(vectors === null, NO_VECTORS);
    const cases = vectors!.suites.xpop_decap;
    expect(cases.length).toBe(7);
    for (const { n, description, verdict, kind, in: arrived, out } of cases) {
      const what = `${n}: ${description}`;
      const packet = parsed(frameOf(arrived));
      const ours = accepted.isOurs(packet);
      expect(ours, what).toBe(kind !== 'unchanged');
      if (ours) expect(accepted.admits(packet), what).toBe(true);
      const result = ours ? decapsulate(packet) : DropReason.none;
      const now = Buffer.from(bytesOf(packet)).toString('hex');
      if (verdict === 'XDP_DROP') {
        // Katran has written the packet that it drops; we have not.
        expect([result, now], what).toEqual([DropReason.ttlExpired, arrived]);
      } else if (kind === 'decap+reencap') {
        // Behind the outer IP header and 8 bytes of UDP is the packet that we have.
        const outerBytes = out.slice(24, 28) === '0800' ? 20 : 40;
        expect([result, now.slice(28)], what).toEqual([DropReason.none, out.slice(2 * (14 + outerBytes + 8))]);
      } else {
        expect([result, now], what).toEqual([DropReason.none, out]);
      }
    }
  });
});
