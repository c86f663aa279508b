/** Look-ups follow an entry whose state changes between plain and timed, and do not trip over what was taken out. */
import { expect, it } from 'vitest';
import { IpSet } from '../../src/control/sets/index.js';
import { formatWords, parseAddress } from '../../src/shared/addr.js';
import { SetView, type SetType } from '../../src/shared/sets/index.js';
import { random } from '../support/packets.js';

const TCP80 = (6 << 16) | 80;
let now = 1000;

function asks(set: IpSet, address: string, port: number): boolean {
  const { family, words } = parseAddress(address);
  const [a0, a1, a2, a3] = words;
  const view = new SetView(set.buffers);
  return (family === 4 ? view.lookup4(a0, port, now) : view.lookup6(a0, a1, a2, a3, port, now)) > 0;
}

it.each<[SetType, string]>([
  ['hash:ip', '192.0.2.1'],
  ['hash:ip', '2001:db8::1'],
  ['hash:ip,port', '192.0.2.1'],
  ['hash:net', '192.0.2.1'],
  ['hash:net', '2001:db8::1'],
  ['hash:net,port', '2001:db8::1'],
])('%s of %s: for ever, for a time, for ever again', (type, address) => {
  now = 1000;
  const port = type.endsWith('port') ? TCP80 : 0;
  const text = port === 0 ? address : `${address},tcp:80`;
  const set = new IpSet({ name: 'it', type, timeout: 0 }, { seconds: () => now });
  set.add(text);
  expect(asks(set, address, port)).toBe(true);
  set.add(text, { timeout: 10 }, true);
  expect(asks(set, address, port)).toBe(true);
  now += 20;
  expect(asks(set, address, port)).toBe(false);
  set.add(text, { timeout: 0 }, true);
  now += 5000;
  expect(asks(set, address, port)).toBe(true);
  if (port !== 0) expect(asks(set, address, port + 1)).toBe(false);
  set.del(text);
  expect(asks(set, address, port)).toBe(false);
});

it('finds none of the addresses that are bit maps of prefix lengths, however many were taken out', () => {
  const next = random(7);
  for (const [family, addresses] of [
    [4, ['128.0.0.0', '0.128.0.0', '128.128.0.0']],
    [6, ['::8000:0', '8000::', '0:1::']],
  ] as const) {
    const set = new IpSet({ name: 'it', type: 'hash:ip' }, { seconds: () => now });
    const kept: string[] = [];
    for (let i = 0; i < 3000; i++) {
      const words = [0, 0, 0, 0].map(() => (next() * 2 ** 32) | 0) as [number, number, number, number];
      const text = formatWords(family, words);
      set.add(text, {}, true);
      if (i % 3 === 0) kept.push(text);
      else set.del(text);
    }
    for (const address of addresses) expect(asks(set, address, 0), address).toBe(false);
    for (const address of kept) expect(asks(set, address, 0), address).toBe(true);
  }
});
