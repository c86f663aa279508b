/** Rules in front of bpf/redirect.bpf.c: what is dropped there, what goes on, and a change of rules under load. */
import { describe, expect, it, onTestFinished } from 'vitest';
import { MatchAll, type RedirectStat } from '../../src/control/bpf_layout.js';
import type { SanityBefore } from '../../src/control/ebpf/offload/sanity.js';
import { RuleFront, type Front } from '../../src/control/ebpf/offload/front.js';
import { RuleShelf } from '../../src/control/rule_tables.js';
import { native, type BpfProgram } from '../../src/native.js';
import type { RuleConfig } from '../../src/shared/config.js';
import { enterForTest, Redirect, XDP } from '../support/bpf.js';
import { AddonChild, compileBpf, XDP_TX_SOURCE } from '../support/bpf_child.js';
import { randomSource } from '../support/cbpf_programs.js';
import { testPlayground } from '../support/netns.js';
import { PacketBuilder } from '../support/packet_builder.js';
import { LEFT_ALONE, spoilt, TAKEN } from '../support/packet_kinds.js';
import { randomFrame } from '../support/rule_packets.js';

const VIP4 = '203.0.113.10';
const VIP6 = '2001:db8:cafe::10';
const CHECKS: SanityBefore = { checks: ['ipv4-checksum', 'source'], protocols: null };
type Moved = Partial<Record<RedirectStat, number>>;
/** What the redirect program does with a packet for user space when there is no socket. */
const TO_USER_SPACE: Moved = { seen: 1, pass: 1, no_socket: 1 };
const HOST: Moved = { seen: 1, pass: 1 };
const DROPPED: Moved = { seen: 1, drop: 1 };

const drop = (i: number, match: RuleConfig['match']): RuleConfig => ({
  name: String(i),
  match,
  action: 'drop',
  mode: 'enforce',
  probability: 1,
});
const port = (n: number) => ({ dport: { first: n, last: n } });
const tablesOf = (...rules: RuleConfig[]) => new RuleShelf().build(rules, (name) => Number(name));
const udp4 = (dst: string, dport = 53, o = {}): Uint8Array =>
  new PacketBuilder()
    .ethernet()
    .ipv4({ src: '192.0.2.1', dst, ...o })
    .udp({ sport: 999, dport })
    .payload(30)
    .build();
const udp6 = (dst: string, dport = 53): Uint8Array =>
  new PacketBuilder().ethernet().ipv6({ src: '2001:db8::1', dst }).udp({ sport: 999, dport }).payload(30).build();

function frontOf(redirect: Redirect, matchAll: number = MatchAll.vips): RuleFront {
  const vips = matchAll === MatchAll.vips ? redirect.object.map('vip_map') : null;
  const program = redirect.object.programFd('sluice_redirect');
  const front = new RuleFront({ program, stats: redirect.object.map('stats'), vips });
  onTestFinished(() => front.close());
  return front;
}

function loaded(front: RuleFront, ...rules: RuleConfig[]): Front {
  const made = front.load({ tables: tablesOf(...rules), sanity: CHECKS });
  onTestFinished(() => made.program.close());
  return made;
}

describe('rules in front of the redirect program', () => {
  const run = (program: BpfProgram, redirect: Redirect, data: Uint8Array): [number, Moved] => {
    let retval = -1;
    const moved = redirect.counted(() => (retval = program.testRun({ data }).retval));
    return [retval, moved];
  };

  it('drop packets for user space only, and count them', () => {
    using redirect = new Redirect({}, [VIP4, VIP6]);
    const front = frontOf(redirect);
    const { program } = loaded(front, drop(7, port(53)));
    const cases: [string, Uint8Array, number, Moved][] = [
      ['IPv4', udp4(VIP4), XDP.DROP, DROPPED],
      ['IPv6', udp6(VIP6), XDP.DROP, DROPPED],
      ['another port', udp4(VIP4, 54), XDP.PASS, TO_USER_SPACE],
      ['an address of the host', udp4('203.0.113.11'), XDP.PASS, HOST],
      ['an IPv6 address of the host', udp6('2001:db8:cafe::11'), XDP.PASS, HOST],
      ['a VIP written as ::ffff:a.b.c.d', udp6('::ffff:203.0.113.10'), XDP.PASS, { ...HOST, malformed: 1 }],
      ['a wrong checksum', udp4(VIP4, 53, { checksum: 1 }), XDP.PASS, TO_USER_SPACE],
      ['a fragment', udp4(VIP4, 53, { moreFragments: true }), XDP.DROP, DROPPED],
      ['a fragment of the host', udp4('203.0.113.11', 53, { moreFragments: true }), XDP.PASS, HOST],
    ];
    for (const [name, frame, retval, moved] of cases) {
      expect([name, ...run(program, redirect, frame)]).toEqual([name, retval, moved]);
    }
    const bytes = 2 * udp4(VIP4).length + udp6(VIP6).length;
    expect(front.counts(7)).toEqual([3, bytes, 3, bytes]);
    expect(front.counts(8)).toEqual([0, 0, 0, 0]);
  });

  it('meet all traffic where user space takes all', () => {
    using redirect = new Redirect({ match_all: MatchAll.traffic });
    const { program } = loaded(frontOf(redirect, MatchAll.traffic), drop(0, port(53)));
    expect(run(program, redirect, udp4('203.0.113.11'))).toEqual([XDP.DROP, DROPPED]);
    expect(run(program, redirect, udp4('203.0.113.11', 54))).toEqual([XDP.PASS, TO_USER_SPACE]);
  });

  it('leave frames of every kind as the redirect program has them, when no rule drops them', () => {
    using redirect = new Redirect({}, ['192.0.2.0/24', '2001:db8::/32']);
    const { program } = loaded(frontOf(redirect), drop(0, { protocol: 17, ...port(7) }));
    const random = randomSource(3);
    const kinds = new Set<string>();
    for (let i = 0; i < 500; i++) {
      const frame = randomFrame(random);
      if (frame.length < 14) continue;
      let retval = -1;
      const alone = redirect.counted(() => (retval = redirect.run(frame).retval));
      expect(run(program, redirect, frame)).toEqual([retval, alone]);
      kinds.add(JSON.stringify(alone));
    }
    expect(kinds.size).toBeGreaterThan(2);
  });

  it.each([MatchAll.vips, MatchAll.traffic])(
    'drop nothing that the redirect program gives to the host: match_all %i',
    (all) => {
      using redirect = new Redirect({ match_all: all }, ['192.0.2.0/24', '2001:db8::/32']);
      const made = frontOf(redirect, all).load({ tables: tablesOf(drop(0, {})), sanity: null });
      onTestFinished(() => made.program.close());
      const random = randomSource(4);
      const kinds = Object.entries({ ...TAKEN, ...LEFT_ALONE });
      const frames = Array.from({ length: 10 }, () =>
        kinds.map(([name, make]) => [name, make(random).build()] as const),
      ).flat();
      const dropped = new Set<string>();
      const left = new Set<string>();
      for (const [name, frame] of [...frames, ...frames.map(([, one]) => ['spoilt', spoilt(random, one)] as const)]) {
        const alone = redirect.counted(() => redirect.run(frame));
        const [, moved] = run(made.program, redirect, frame);
        if (alone.no_socket === undefined) expect([name, moved]).toEqual([name, alone]);
        else {
          // What it says of the frame beside where it goes is said of dropped ones too.
          const { no_socket: _, pass: __, ...said } = alone;
          expect([name, moved]).toEqual([name, moved.drop === 1 ? { ...said, ...DROPPED } : alone]);
        }
        (moved.drop ? dropped : left).add(name);
      }
      // What is not IP is for user space where it takes all.
      const taken = Object.keys(TAKEN).filter((name) => all === MatchAll.traffic || !name.startsWith('not IP'));
      expect([...dropped].sort()).toEqual([...taken, 'spoilt'].sort());
      expect(left.has('neighbour discovery')).toBe(true);
    },
  );

  it('go on counting when other rules take their place', () => {
    using redirect = new Redirect({}, [VIP4]);
    const front = frontOf(redirect);
    const data = udp4(VIP4);
    loaded(front, drop(3, port(53))).program.testRun({ data });
    loaded(front, drop(2, port(80)), drop(3, { protocol: 17 })).program.testRun({ data });
    expect(front.counts(3)).toEqual([2, 2 * data.length, 2, 2 * data.length]);
  });

  it('change under load without a packet that meets none of them', async () => {
    const playground = testPlayground();
    const [here, there] = [playground.namespace('a'), playground.namespace('b')];
    playground.veth({ namespace: here, name: 'va' }, { namespace: there, name: 'vb' });
    for (const namespace of [here, there]) namespace.sysctl({ 'net/ipv6/conf/all/disable_ipv6': 1 });
    here.ip('link set va up');
    there.ip('link set vb up');
    enterForTest(here);
    using redirect = new Redirect({}, [VIP4]);
    const front = frontOf(redirect);
    const first = loaded(front, drop(0, port(53)));
    const second = loaded(front, drop(1, { protocol: 17 }));
    const link = first.program.attachXdp(native().linkInfo('va').ifindex, 'native');
    onTestFinished(() => link.close());
    const packets = 200_000;
    const sender = new AddonChild(
      `const object = new addon.BpfObject(args[0]); object.load();
       const ifindex = addon.linkInfo('vb').ifindex;
       object.testRun('send_back', { data: Buffer.from(args[1], 'hex'), ifindex, liveFrames: true, repeat: ${packets}, batchSize: 64 });
       say('sent');`,
      [compileBpf('send', XDP_TX_SOURCE), Buffer.from(udp4(VIP4)).toString('hex')],
      there.name,
    );
    let sent = false;
    const ended = sender.ended.then((result) => {
      sent = true;
      return result;
    });
    let updates = 0;
    while (!sent) {
      link.update(updates++ % 2 === 0 ? second.program : first.program);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    expect((await ended).stdout).toBe('sent\n');
    expect(updates).toBeGreaterThan(3);
    const { seen, drop: dropped, pass } = redirect.stats();
    // veth may lose packets in front of the program when its ring is full; those that got there were dropped by a rule, every one.
    expect(pass).toBeUndefined();
    expect(dropped).toBe(seen);
    const [byFirst, bySecond] = [front.counts(0)[0], front.counts(1)[0]];
    expect(byFirst + bySecond).toBe(seen);
    expect(Math.min(byFirst, bySecond)).toBeGreaterThan(0);
  });
});
