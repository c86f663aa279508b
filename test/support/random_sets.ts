/** Random sets that have to do with the packets of rule_packets.ts. */
import { IpSet } from '../../src/control/sets/index.js';
import { maskWords } from '../../src/shared/addr.js';
import type { SetType } from '../../src/shared/sets/index.js';
import type { Random } from './cbpf_programs.js';
import { NOW } from './kernel_chain.js';

export const TYPES: readonly SetType[] = ['hash:ip', 'hash:net', 'hash:ip,port', 'hash:net,port'];

const HOSTS4 = ['192.0.2.1', '192.0.2.9', '198.51.100.10', '10.0.0.1', '255.255.255.255', '192.0.2.200', '9.9.9.9'];
const HOSTS6 = ['2001:db8::1', '2001:db8:1::9', '2001:db9::1', 'c000:201::', 'ffff::1', '3000::'];
const PORTS = [0, 1, 22, 53, 80, 123, 443, 1023, 1024, 9999, 32768, 65535];
const OTHERS4 = ['icmp:8/0', 'icmp:0/0', 'icmp:3/1', 'gre:0', '255:0', 'sctp:80'];
const OTHERS6 = ['icmpv6:128/0', 'icmpv6:1/4', 'icmpv6:129/0', 'gre:0', '255:0'];

export interface SetWishes {
  entries?: number;
  timeout?: boolean;
  counters?: boolean;
}

/**
 * Filled some seconds before NOW: some of its entries have ended by then and are still there, others live on.
 */
export function randomSet(random: Random, type: SetType, name: string, wishes: SetWishes = {}): IpSet {
  let now = NOW - 20;
  const [isNet, hasPort] = [type.startsWith('hash:net'), type.endsWith(',port')];
  const timeout = wishes.timeout ?? random(2) === 0;
  const counters = wishes.counters ?? random(2) === 0;
  const cut = !isNet && random(3) === 0;
  const set = new IpSet(
    {
      ...{ name, type, counters, timeout: timeout ? 0 : null },
      ...(cut && { mask4: maskWords(8 + random(24)), mask6: maskWords(16 + random(100)) }),
    },
    { seconds: () => now },
  );
  const count = wishes.entries ?? 10 + random(30);
  for (let i = 0; i < count; i++) {
    const family = random(2) === 0 ? 4 : 6;
    const hosts = family === 4 ? HOSTS4 : HOSTS6;
    const host = hosts[random(hosts.length)];
    const bits = family === 4 ? 32 : 128;
    const length = isNet && random(4) !== 0 ? `/${1 + random(bits)}` : '';
    const others = family === 4 ? OTHERS4 : OTHERS6;
    const port = () => `${['tcp', 'udp'][random(2)]}:${PORTS[random(PORTS.length)]}`;
    const element = `${host}${length}${hasPort ? `,${random(4) === 0 ? others[random(others.length)] : port()}` : ''}`;
    const ends = timeout ? { timeout: [0, 5, 19, 20, 500][random(5)] } : {};
    set.add(element, { ...ends, ...(isNet && random(4) === 0 && { nomatch: true }) }, true);
  }
  now = NOW;
  return set;
}
