/**
 * What a service look-up costs with 10 and with 10,000 services. Each new flow costs one; packets of known flows none.
 *
 *   node dist-bench/bench/service_table.js
 *
 * Two kinds of table: plain (address, port, protocol), and mixed, where every look-up has four prefix lengths to go through, ports,
 * ranges and any ports, with and without protocol. The fastest of many rounds in turn, so that what else runs does not count.
 */
import { buildServiceKeys } from '../src/control/service_keys.js';
import { lookupService } from '../src/dataplane/balance/service_table.js';
import { parsePrefix } from '../src/shared/addr.js';
import type { ServiceConfig } from '../src/shared/config.js';

const LOOK_UPS = 8192;
const ROUNDS = 100;

/** What the key table needs of a service. */
function service(number: number, vip: string, ports: string[], protocols: number[] = [6]): ServiceConfig {
  const ranges = ports.map((text) => {
    const [first, last = first] = text.split('-').map(Number);
    return { first, last };
  });
  return { name: String(number), vip: parsePrefix(vip), ports: ranges, protocols } as unknown as ServiceConfig;
}

const plain = (count: number): ServiceConfig[] =>
  Array.from({ length: count }, (_, i) => service(i, `10.0.${i >> 8}.${i & 255}`, ['443']));

function mixed(count: number): ServiceConfig[] {
  return Array.from({ length: count }, (_, i) => {
    const block = Math.floor(i / 5);
    const net = `10.${block >> 8}.${block & 255}`;
    if (i % 5 === 0) return service(i, `${net}.1`, ['443', '80', '8000-8099']);
    if (i % 5 === 1) return service(i, `${net}.0/24`, []);
    if (i % 5 === 2) return service(i, `${net}.16/28`, ['443']);
    if (i % 5 === 3) return service(i, `${net}.16/28`, [], []);
    return service(i, `${net}.2/31`, ['1000-1999'], []);
  });
}

interface Case {
  name: string;
  keys: Int32Array;
  lengths: number[];
  addresses: Int32Array;
  ports: Int32Array;
  fastest: number;
}

let state = 1;
function below(limit: number): number {
  state = (Math.imul(state, 1664525) + 1013904223) | 0;
  return Math.floor(((state >>> 0) / 2 ** 32) * limit);
}

function prepare(name: string, services: ServiceConfig[], packet: () => [number, number]): Case {
  const { words, lengths4 } = buildServiceKeys(services, Number);
  const packets = Array.from({ length: LOOK_UPS }, packet);
  return {
    name,
    keys: words,
    lengths: lengths4,
    addresses: Int32Array.from(packets, ([address]) => address),
    ports: Int32Array.from(packets, ([, port]) => port),
    fastest: Infinity,
  };
}

/** Returns how many look-ups found a service, so that none is optimised away. */
function run({ keys, lengths, addresses, ports }: Case): number {
  let found = 0;
  for (let i = 0; i < LOOK_UPS; i++) {
    if (lookupService(keys, lengths, 4, addresses[i], 0, 0, 0, 6, ports[i]) >= 0) found++;
  }
  return found;
}

const HOSTS = [0, 1, 2, 16, 31];
const PORTS = [443, 80, 53, 8050, 1500, 7];
const cases = [10, 10_000].flatMap((count) => [
  prepare(`plain, ${count}`, plain(count), () => [(10 << 24) | below(count), 443]),
  prepare(`mixed, ${count}`, mixed(count), () => [
    (10 << 24) | (below(count / 5) << 8) | HOSTS[below(HOSTS.length)],
    PORTS[below(PORTS.length)],
  ]),
]);
for (let round = 0; round < ROUNDS; round++) {
  for (const each of cases) {
    const start = process.hrtime.bigint();
    const found = run(each);
    each.fastest = Math.min(each.fastest, Number(process.hrtime.bigint() - start) / LOOK_UPS);
    if (found < LOOK_UPS / 2) throw new Error(`${each.name}: ${found} of ${LOOK_UPS} found`);
  }
}
for (const { name, fastest } of cases) console.log(`${name} services: ${fastest.toFixed(1)} ns a look-up`);
