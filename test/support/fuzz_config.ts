/** Random configurations of everything that the load-balancing path can do, and random changes of them. */
import { parseConfig } from '../../src/control/config/index.js';

type Random = () => number;

export interface FuzzBackend {
  address: string;
  weight?: number;
  state?: string;
  server_ids?: (number | string)[];
}

export interface FuzzService {
  name: string;
  vip: string;
  port?: (number | string)[] | string;
  protocol: string[];
  backends: FuzzBackend[];
  source_routes?: { prefix: string; backend: string }[];
  [key: string]: unknown;
}

export interface FuzzConfig {
  interfaces: string[];
  services: FuzzService[];
  [key: string]: unknown;
}

/** Addresses of this node that tunnels lead to. */
export const TUNNEL_ENDS = ['10.0.0.2', 'fd00::2'];
/** Who may send there. */
export const TUNNEL_PEERS = ['10.9.0.7', 'fd09::7'];

const VIPS4 = ['198.51.100.10', '198.51.100.11', '203.0.113.0/28', '198.51.100.0/24'];
const VIPS6 = ['2001:db8:1::10', '2001:db8:2::/64', '2001:db8:1::/48'];
const PORTS: (FuzzService['port'] | undefined)[] = [[80], [80, 443], ['8000-8100'], [53, '8000-8001'], 'any'];
const PROTOCOLS = [['tcp'], ['udp'], ['tcp', 'udp'], ['any'], ['sctp']];
const KEY = '000102030405060708090a0b0c0d0e0f';

export class ConfigFuzz {
  constructor(private readonly next: Random) {}

  pick<T>(list: readonly T[]): T {
    return list[Math.floor(this.next() * list.length)];
  }

  chance(share: number): boolean {
    return this.next() < share;
  }

  below(limit: number): number {
    return Math.floor(this.next() * limit);
  }

  /** A configuration that is accepted. */
  config(): FuzzConfig {
    return this.accepted(() => ({
      interfaces: ['eth0', 'eth1'],
      flows: { slots: 1024, max_new_per_second: this.chance(0.1) ? 20 : 0 },
      icmp: {
        echo: this.pick(['answer', 'forward', 'pass']),
        too_big: this.pick(['reply', 'reply', 'drop']),
        max_per_second: this.pick([1000, 1000, 10, 0]),
      },
      fragments: {
        policy: this.pick(['follow', 'follow', 'follow', 'drop']),
        out_of_order: this.pick(['hold', 'hold', 'drop']),
        slots: 64,
        held: this.pick([1, 4, 64]),
      },
      ...(this.chance(0.5)
        ? { decapsulate: { addresses: TUNNEL_ENDS, from: ['10.9.0.0/16', 'fd09::/16'], gue_ports: [6080, 6081] } }
        : {}),
      ...(this.chance(0.2)
        ? { filters: [{ sanity: { checks: ['ipv4-checksum', 'ipv4-options', 'source'] } }, 'rules'] }
        : {}),
      ...(this.chance(0.2) ? { rules: this.rules() } : {}),
      services: Array.from({ length: 1 + this.below(5) }, (_, i) => this.service(`s${i}`)),
    }));
  }

  /** The same with some of it changed, as a reload would bring it. */
  changed(config: FuzzConfig): FuzzConfig {
    return this.accepted(() => {
      const next = structuredClone(config);
      const i = this.below(next.services.length);
      const service = next.services[i];
      switch (this.below(6)) {
        case 0:
          if (next.services.length > 1) next.services.splice(i, 1);
          break;
        case 1:
          next.services.push(this.service(`s${this.below(9)}`));
          break;
        case 2:
          next.services[i] = { ...this.service(service.name), backends: service.backends };
          delete next.services[i].source_routes;
          break;
        case 3:
          service.backends.splice(this.below(service.backends.length + 1), 1);
          break;
        case 4:
          service.backends.push(this.backend(service.backends[0]?.address.includes(':') ?? false));
          break;
        default:
          next.services.reverse();
          service.backends.reverse();
      }
      const known = new Set(service.backends.map(({ address }) => address));
      service.source_routes = service.source_routes?.filter(({ backend }) => known.has(backend));
      if (service.source_routes === undefined) delete service.source_routes;
      return next;
    });
  }

  private accepted(make: () => FuzzConfig): FuzzConfig {
    for (let tries = 0; tries < 200; tries++) {
      const config = make();
      try {
        parseConfig(JSON.stringify(config));
        return config;
      } catch {
        // Two services on one key, ids that are there twice and the like: another draw.
      }
    }
    throw new Error('200 configurations in a row were refused');
  }

  private rules(): object[] {
    const matches = [
      { src: '192.0.2.1/32' },
      { dst: '2001:db8:1::/48', protocol: 'udp' },
      { fragment: true },
      { tcp_flags: 'fin' },
      { dport: 53 },
    ];
    return matches
      .filter(() => this.chance(0.5))
      .map((match, i) => ({ name: `r${i}`, match, action: this.pick(['drop', 'pass', 'count', 'count']) }));
  }

  private backend(ipv6: boolean): FuzzBackend {
    const number = 11 + this.below(6);
    const second = this.chance(0.3);
    const address = ipv6 ? `${second ? 'fd02' : 'fd00'}::${number}` : `10.${second ? 2 : 0}.0.${number}`;
    const backend: FuzzBackend = { address };
    if (this.chance(0.2)) backend.weight = this.pick([0, 1, 3, 100]);
    if (this.chance(0.1)) backend.state = this.pick(['draining', 'inactive']);
    return backend;
  }

  private service(name: string): FuzzService {
    const ipv6 = this.chance(0.35);
    const toIpv6 = this.chance(0.4);
    const encapsulation = this.encapsulation();
    const chained = encapsulation.kind === 'gue' && encapsulation.gue?.variant === 0 && this.chance(0.5);
    const mixed = !chained && this.chance(0.2);
    const backends = Array.from({ length: this.below(7) }, () => this.backend(mixed ? this.chance(0.5) : toIpv6));
    // GLB's tables have 65536 rows whatever is asked for, and take their time.
    const hash = this.chance(0.03)
      ? 'glb'
      : chained
        ? 'sluice'
        : this.pick(['sluice', 'sluice', 'katran', 'katran-v2']);
    const protocol = this.pick(PROTOCOLS);
    const service: FuzzService = {
      name,
      vip: this.pick(ipv6 ? VIPS6 : VIPS4),
      protocol,
      port: protocol[0] === 'any' ? 'any' : this.pick(PORTS),
      backends: backends.filter(({ address }, i) => backends.findIndex((b) => b.address === address) === i),
      encapsulation,
      hash,
      flow_table: this.chance(0.75),
      mss_clamp: this.pick(['off', 'off', 'auto', 1200]),
    };
    if (hash !== 'glb') service.ring_size = 251;
    if (hash === 'glb') service.glb = { hash_key: KEY, seed: KEY };
    if (chained) service.hops = this.pick([2, 3]);
    if (this.chance(0.3)) service.hash_fields = this.hashFields(hash);
    if (this.chance(0.2)) service.flood = { max_new_per_second: 10, above: this.pick(['bypass', 'drop']) };
    if (this.chance(0.3)) service.drain = { udp: 'move' };
    this.steer(service, ipv6);
    return service;
  }

  private hashFields(hash: string): string[] {
    if (hash.startsWith('katran')) return this.pick([['src', 'dport'], ['dport'], ['src', 'sport'], ['src']]);
    const fields = ['src', 'sport', 'dst', 'dport', ...(hash === 'glb' ? [] : ['protocol'])];
    const some = fields.filter(() => this.chance(0.5));
    return some.length === 0 ? ['src'] : some;
  }

  private encapsulation(): {
    kind: string;
    source?: string[];
    gue?: { variant: number; checksum: string; port: number };
  } {
    const source = this.pick([undefined, undefined, ['10.3.0.0/16', 'fd03::/64'], ['10.3.0.0/30', 'fd03::/127']]);
    switch (this.below(4)) {
      case 0:
        return { kind: 'l2' };
      case 1:
        return source ? { kind: 'ipip', source } : { kind: 'ipip' };
      default: {
        const gue = {
          variant: this.below(2),
          checksum: this.pick(['zero', 'computed']),
          port: this.pick([6080, 6081]),
        };
        return source ? { kind: 'gue', gue, source } : { kind: 'gue', gue };
      }
    }
  }

  /** Ids in packets and source prefixes. */
  private steer(service: FuzzService, ipv6: boolean): void {
    const { protocol, backends } = service;
    const has = (name: string): boolean => protocol.includes(name) || protocol.includes('any');
    let hex = false;
    if (has('udp') && this.chance(0.3)) {
      hex = this.chance(0.5);
      service.quic = hex
        ? {
            quic_lb: [{ rotation: 0, server_id_length: 2, nonce_length: 6, ...(this.chance(0.5) ? { key: KEY } : {}) }],
          }
        : 'katran';
    } else if (has('udp') && this.chance(0.2)) service.stable_udp = true;
    if (has('tcp') && this.chance(0.2)) service.tcp_server_id = true;
    backends.forEach((backend, i) => {
      if (this.chance(0.7)) backend.server_ids = [hex ? `hex:00${(10 + i).toString(16).padStart(2, '0')}` : 100 + i];
    });
    if (backends.length > 0 && this.chance(0.25)) {
      const prefixes = ipv6
        ? ['2001:db8:9::/126', '2001:db8:9::/64', '::/0']
        : ['192.0.2.0/30', '192.0.2.4/32', '0.0.0.0/0'];
      service.source_routes = prefixes
        .filter(() => this.chance(0.5))
        .map((prefix) => ({ prefix, backend: this.pick(backends).address }));
    }
  }
}
