import { describe, expect, it } from 'vitest';
import { FragmentFate, FragmentTable } from '../../src/dataplane/balance/fragments.js';
import { FlowHash } from '../../src/dataplane/balance/hash.js';
import { fragmentId } from '../../src/dataplane/packet/fragment_id.js';
import type { Packet } from '../../src/dataplane/packet/packet.js';
import { DropReason } from '../../src/dataplane/verdict.js';
import { Counter, CounterBlock, type FragmentSettings } from '../../src/shared/layout.js';
import { PacketBuilder, PROTO } from '../support/packet_builder.js';
import { parsed, random } from '../support/packets.js';

const SETTINGS: FragmentSettings = { policy: 'follow', outOfOrder: 'hold', slots: 64, timeout: 2, held: 8 };

interface Options {
  id?: number;
  src?: string;
  dst?: string;
  protocol?: number;
}

function first({ id = 7, src = '198.51.100.7', dst = '192.0.2.1' }: Options = {}): Packet {
  return parsed(new PacketBuilder().ethernet().ipv4({ src, dst, id, moreFragments: true }).udp().payload(64).build());
}

function later({ id = 7, src = '198.51.100.7', dst = '192.0.2.1', protocol = 17 }: Options = {}, offset = 9): Packet {
  const ip = { src, dst, id, protocol, fragmentOffset: offset };
  return parsed(new PacketBuilder().ethernet().ipv4(ip).payload(64).build());
}

/** A port that writes down what it is told; `places`: where its held frames are. */
class FakePort {
  readonly resumed: number[] = [];
  readonly released: number[] = [];
  refuses = false;
  constructor(readonly index = 0) {}
  resume(offset: number): boolean {
    if (!this.refuses) this.resumed.push(offset);
    return !this.refuses;
  }
  release(offset: number): boolean {
    this.released.push(offset);
    return true;
  }
}

class Rig {
  readonly counters = new Float64Array(CounterBlock.SIZE);
  readonly port = new FakePort(0);
  readonly table: FragmentTable;
  now = 1000;
  private nextOffset = 1;

  constructor(settings: Partial<FragmentSettings> = {}) {
    this.table = new FragmentTable({ ...SETTINGS, ...settings }, new FlowHash([1, 2, 3, 4]), this.counters);
    this.table.attach(this.port);
  }

  /** As the path does it: what is held is counted by the path. */
  follow(packet: Packet, port = 0): number {
    packet.port = port;
    packet.data = this.nextOffset++ * 2048;
    const fate = this.table.follow(packet, this.now);
    if (fate === FragmentFate.hold) this.counters[Counter.framesHeld]++;
    return fate;
  }

  decide(packet: Packet, decision: number, incarnation = 1): void {
    this.table.decide(packet, decision, incarnation, this.now);
  }

  get timedOut(): number {
    return this.counters[CounterBlock.reasons + DropReason.fragmentTimeout];
  }

  /** Frames held according to the table, and what the counters say of them. */
  expectConsistent(): void {
    const { counters, port, table } = this;
    expect(counters[Counter.framesHeld] - port.resumed.length).toBe(table.heldFrames);
    expect(counters[Counter.drop]).toBe(this.timedOut);
    expect(counters[Counter.fragmentsHeld]).toBe(table.heldFrames + port.resumed.length + this.timedOut);
  }
}

describe('the id of a datagram', () => {
  it('is that of the IPv4 header', () => {
    expect(fragmentId(first({ id: 0xbeef }))).toBe(0xbeef);
    expect(fragmentId(later({ id: 0xbeef }))).toBe(0xbeef);
  });

  it('is that of the IPv6 fragment header, wherever it is', () => {
    const six = () => new PacketBuilder().ethernet().ipv6();
    const fragment = { id: 0xdeadbeef, more: true };
    expect(fragmentId(parsed(six().fragment(fragment).udp().payload(64).build()))).toBe(0xdeadbeef | 0);
    const chain = six().extension(PROTO.HOPOPTS).extension(PROTO.ROUTING, new Uint8Array(14));
    expect(
      fragmentId(
        parsed(
          chain
            .fragment({ ...fragment, offset: 5 })
            .udp()
            .payload(64)
            .build(),
        ),
      ),
    ).toBe(0xdeadbeef | 0);
    const authentication = six().extension(51, new Uint8Array(22), 4).fragment(fragment).udp().payload(8).build();
    expect(fragmentId(parsed(authentication))).toBe(0xdeadbeef | 0);
  });

  it('is 0 where there is no fragment', () => {
    expect(fragmentId(parsed(new PacketBuilder().ethernet().ipv4({ id: 5 }).udp().build()))).toBe(0);
    expect(fragmentId(parsed(new PacketBuilder().ethernet().ipv6().fragment({ id: 5 }).udp().build()))).toBe(0);
  });
});

describe('later fragments', () => {
  it('follow the first, as often as they come, until it has timed out', () => {
    const rig = new Rig();
    rig.decide(first(), 42, 3);
    for (let i = 0; i < 3; i++) expect(rig.follow(later({}, 9 + i))).toBe(42);
    expect(rig.table.incarnation).toBe(3);
    expect(rig.counters[Counter.fragmentsFollowed]).toBe(3);
    rig.now += 2000;
    expect(rig.follow(later())).toBe(42);
    rig.now += 1;
    expect(rig.follow(later())).toBe(FragmentFate.hold);
  });

  it('follow a newer first of the same id', () => {
    const rig = new Rig();
    rig.decide(first(), 1);
    rig.decide(first(), 2);
    expect(rig.follow(later())).toBe(2);
  });

  it.each([FragmentFate.pass, FragmentFate.drop])('share its fate %i', (fate) => {
    const rig = new Rig();
    rig.decide(first(), fate);
    expect(rig.follow(later())).toBe(fate);
    expect(rig.counters[Counter.fragmentsFollowed]).toBe(0);
  });

  it.each<[string, Options]>([
    ['id', { id: 8 }],
    ['source', { src: '198.51.100.8' }],
    ['destination', { dst: '192.0.2.2' }],
    ['protocol', { protocol: 6 }],
  ])('of another %s do not', (_, options) => {
    const rig = new Rig({ outOfOrder: 'drop' });
    rig.decide(first(), 42);
    expect(rig.follow(later(options))).toBe(FragmentFate.unknown);
    expect(rig.follow(later())).toBe(42);
  });

  it('follow in IPv6 whatever header comes first behind the fragment header', () => {
    const six = (src = '2001:db8::7') => new PacketBuilder().ethernet().ipv6({ src });
    const rig = new Rig({ outOfOrder: 'drop' });
    rig.decide(parsed(six().fragment({ id: 9, more: true }).extension(PROTO.DSTOPTS).udp().payload(64).build()), 5);
    const rest = (src?: string, id = 9) => parsed(six(src).fragment({ id, offset: 4 }).extension(PROTO.DSTOPTS).payload(8).build()); // prettier-ignore
    expect(rest().protocol).toBe(PROTO.DSTOPTS);
    expect(rig.follow(rest())).toBe(5);
    expect(rig.follow(rest('2001:db8:1::7'))).toBe(FragmentFate.unknown);
    expect(rig.follow(rest(undefined, 10))).toBe(FragmentFate.unknown);
  });

  it('are unknown before their first where they are not to wait', () => {
    const rig = new Rig({ outOfOrder: 'drop' });
    expect(rig.follow(later())).toBe(FragmentFate.unknown);
    expect(rig.table.heldFrames).toBe(0);
    rig.expectConsistent();
  });
});

describe('fragments before their first', () => {
  it('wait, and are resumed in the order of arrival when it comes', () => {
    const rig = new Rig();
    for (const offset of [30, 10, 20]) expect(rig.follow(later({}, offset))).toBe(FragmentFate.hold);
    expect(rig.follow(later({ id: 8 }))).toBe(FragmentFate.hold);
    expect(rig.table.heldFrames).toBe(4);
    rig.decide(first(), 42);
    expect(rig.port.resumed).toEqual([1, 2, 3].map((n) => n * 2048));
    expect(rig.table.heldFrames).toBe(1);
    expect(rig.follow(later())).toBe(42);
    rig.expectConsistent();
  });

  it('are resumed also when the first was passed or dropped, and share its fate', () => {
    const rig = new Rig();
    rig.follow(later());
    rig.decide(first(), FragmentFate.drop);
    expect(rig.port.resumed).toHaveLength(1);
    expect(rig.follow(later())).toBe(FragmentFate.drop);
  });

  it('are dropped when their time is over, each by its own', () => {
    const rig = new Rig();
    rig.follow(later({ id: 1 }));
    rig.now += 1500;
    rig.follow(later({ id: 2 }));
    rig.follow(later({ id: 1 }));
    rig.now += 500;
    rig.table.sweep(rig.now);
    expect(rig.port.released).toEqual([]);
    rig.now += 1;
    rig.table.sweep(rig.now);
    expect(rig.port.released).toEqual([2048]);
    rig.now += 1500;
    rig.table.sweep(rig.now);
    expect(rig.port.released).toHaveLength(3);
    expect([rig.timedOut, rig.table.heldFrames]).toEqual([3, 0]);
    rig.expectConsistent();
    rig.decide(first({ id: 1 }), 42);
    expect(rig.port.resumed).toEqual([]);
  });

  it('never are more than agreed: the oldest gives way', () => {
    const rig = new Rig({ held: 4 });
    for (let id = 1; id <= 6; id++) expect(rig.follow(later({ id }))).toBe(FragmentFate.hold);
    expect(rig.table.heldFrames).toBe(4);
    expect(rig.port.released).toEqual([2048, 4096]);
    rig.decide(first({ id: 1 }), 1);
    rig.decide(first({ id: 3 }), 1);
    expect(rig.port.resumed).toEqual([3 * 2048]);
    rig.expectConsistent();
  });

  it('may be all of one datagram, the oldest giving way to the newest', () => {
    const rig = new Rig({ held: 2 });
    for (let i = 0; i < 5; i++) expect(rig.follow(later({}, 10 + i))).toBe(FragmentFate.hold);
    rig.decide(first(), 1);
    expect(rig.port.resumed).toEqual([4 * 2048, 5 * 2048]);
    expect(rig.timedOut).toBe(3);
    const single = new Rig({ held: 1 });
    for (let i = 0; i < 3; i++) expect(single.follow(later())).toBe(FragmentFate.hold);
    single.decide(first(), 1);
    expect(single.port.resumed).toEqual([3 * 2048]);
    single.expectConsistent();
  });

  it('are counted as dropped when their port does not have them any more', () => {
    const rig = new Rig();
    rig.follow(later());
    rig.port.refuses = true;
    rig.decide(first(), 1);
    expect(rig.timedOut).toBe(1);
    expect(rig.counters[Counter.framesHeld]).toBe(0);
  });

  it('of a port that closes are forgotten, those of others are not', () => {
    const rig = new Rig();
    const other = new FakePort(3);
    rig.table.attach(other);
    rig.follow(later({ id: 1 }), 0);
    rig.follow(later({ id: 1 }), 3);
    rig.follow(later({ id: 1 }), 0);
    rig.follow(later({ id: 2 }), 0);
    rig.table.detach(0);
    expect([rig.table.heldFrames, rig.timedOut]).toEqual([1, 3]);
    expect([rig.port.released, rig.port.resumed]).toEqual([[], []]);
    rig.decide(first({ id: 1 }), 1);
    rig.decide(first({ id: 2 }), 1);
    expect(other.resumed).toEqual([4096]);
  });

  it('are dropped when the sizes change, and the ports are still known', () => {
    const rig = new Rig();
    rig.follow(later());
    rig.table.configure({ ...SETTINGS, timeout: 1 });
    expect(rig.table.heldFrames).toBe(1);
    rig.table.configure({ ...SETTINGS, slots: 128 });
    expect([rig.table.heldFrames, rig.port.released.length]).toEqual([0, 1]);
    rig.follow(later());
    rig.decide(first(), 1);
    expect(rig.port.resumed).toHaveLength(1);
    rig.follow(later({ id: 99 }));
    rig.table.dropHeld();
    expect(rig.table.heldFrames).toBe(0);
    rig.expectConsistent();
  });
});

describe('a table that is full', () => {
  it('lets orphans displace no decision', () => {
    const rig = new Rig({ slots: 64, held: 64 });
    for (let id = 0; id < 8; id++) rig.decide(first({ id }), id);
    const known = () => [0, 1, 2, 3, 4, 5, 6, 7].filter((id) => rig.follow(later({ id })) === id).length;
    const before = known();
    for (let id = 100; id < 5000; id++) rig.follow(later({ id }));
    expect(known()).toBe(before);
    expect(rig.table.heldFrames).toBeLessThanOrEqual(64);
    rig.expectConsistent();
  });

  it('forgets the oldest decision for a new one, and takes frames that wait before it', () => {
    // One set of 8.
    const rig = new Rig({ slots: 8 });
    for (let id = 0; id < 7; id++) {
      rig.decide(first({ id }), id);
      rig.now++;
    }
    expect(rig.follow(later({ id: 50 }))).toBe(FragmentFate.hold);
    expect(rig.follow(later({ id: 51 }))).toBe(FragmentFate.hold);
    expect(rig.port.released).toHaveLength(1);
    rig.decide(first({ id: 7 }), 7);
    expect([rig.port.released.length, rig.table.heldFrames]).toEqual([2, 0]);
    expect(rig.follow(later({ id: 60 }))).toBe(FragmentFate.unknown);
    rig.decide(first({ id: 8 }), 8);
    const fates = [0, 1, 2, 3, 4, 5, 6, 7, 8].map((id) => rig.follow(later({ id })));
    expect(fates).toEqual([FragmentFate.unknown, 1, 2, 3, 4, 5, 6, 7, 8]);
    rig.expectConsistent();
  });

  it('keeps its books through anything, and never sends a datagram where it did not go', () => {
    const next = random(77);
    const rig = new Rig({ slots: 64, held: 16, timeout: 0.2 });
    const truth = new Map<number, number>();
    let followed = 0;
    for (let step = 0; step < 30000; step++) {
      const id = Math.floor(next() * 120);
      const kind = next();
      if (kind < 0.3) {
        const decision = Math.floor(next() * 1000) - 2;
        truth.set(id, decision);
        rig.decide(first({ id }), decision);
      } else if (kind < 0.9) {
        const fate = rig.follow(later({ id }));
        if (fate > FragmentFate.hold) {
          expect(fate).toBe(truth.get(id));
          followed++;
        }
      } else {
        rig.now += Math.floor(next() * 40);
        rig.table.sweep(rig.now);
      }
      expect(rig.table.heldFrames).toBeLessThanOrEqual(16);
    }
    rig.expectConsistent();
    expect(followed).toBeGreaterThan(3000);
    expect(rig.port.resumed.length).toBeGreaterThan(500);
    expect(rig.timedOut).toBeGreaterThan(500);
    rig.now += 1000;
    rig.table.sweep(rig.now);
    expect(rig.table.heldFrames).toBe(0);
    // No frame twice, none lost.
    const all = [...rig.port.resumed, ...rig.port.released];
    expect(new Set(all).size).toBe(all.length);
    expect(all.length).toBe(rig.counters[Counter.fragmentsHeld]);
  });
});
