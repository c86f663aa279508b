/** What Katran's tests set up (katran_setup.ts) as a configuration of sluice, and the network around it. */
import type { NextHop } from '../../src/control/routes.js';
import { parseAddress, parseMac } from '../../src/shared/addr.js';
import { GUE_PORT, GUE_SOURCE, ROUTER_MAC, type KatranSetup, type KatranVip } from './katran_setup.js';

const UDP = 17;

/**
 * The configuration. What its authors turn on by build flags is on where a suite's tests need it; VIP flags are keys of the service. A
 * backend that an id or a source prefix leads to without being one of the VIP's is there with weight 0: the ring does not see it. One that is called
 * down is draining, once it is none of the VIP's any more: until then Katran's ring has it as before.
 *
 * Addresses at which Katran takes tunnels off for itself (`decapOwn`) are left out: what is sent to the node itself is for its kernel here, where
 * `sluice backend-agent` takes it off.
 */
export function katranConfig(setup: KatranSetup): string {
  const destinations = [...setup.inlineDecap, ...setup.egressDecap];
  // JSON is YAML.
  return JSON.stringify({
    interfaces: ['eth0'],
    encapsulation:
      setup.encap === 'ipip'
        ? 'ipip'
        : {
            kind: 'gue',
            source: [GUE_SOURCE.ipv4, GUE_SOURCE.ipv6],
            gue: { port: GUE_PORT, variant: 1, checksum: 'computed' },
          },
    icmp: { echo: 'answer', too_big: setup.icmpTooBig ? 'reply' : 'drop' },
    // Katran drops both whatever they are for, and looks at nothing else of a header.
    filters: [{ sanity: { checks: ['ipv4-options'] } }, 'rules'],
    rules: [{ name: 'fragments', match: { fragment: true }, action: 'drop' }],
    ...(destinations.length > 0 && {
      decapsulate: { addresses: destinations, from: ['0.0.0.0/0', '::/0'], gue_ports: [GUE_PORT] },
    }),
    services: setup.vips.map((vip) => serviceOf(setup, vip)),
  });
}

function serviceOf(setup: KatranSetup, vip: KatranVip): object {
  const { address, prefixLength, port, protocol, flags } = vip;
  const byTcpOption = setup.tcpServerId && protocol !== UDP;
  const quic = flags.includes('quic');
  const stable = flags.includes('udp-stable-routing');
  const named = quic || stable || byTcpOption;
  const routes = flags.includes('src-routing') ? routesOf(setup, vip) : [];
  const idsOf = (real: string): number[] =>
    [...setup.serverIds.keys()].filter((id) => setup.serverIds.get(id) === real);
  const others = [...(named ? setup.serverIds.values() : []), ...routes.map(({ backend }) => backend)];
  const reals = new Set([...vip.reals, ...vip.down, ...others]);
  return {
    name: nameOf(vip),
    vip: prefixLength === undefined ? address : `${address}/${prefixLength}`,
    port: port === 0 ? 'any' : port,
    protocol: protocol === UDP ? 'udp' : 'tcp',
    hash: 'katran',
    ...(flags.includes('dport-hash') && { hash_fields: ['dport'] }),
    ...(flags.includes('udp-flow-migration') && { drain: { udp: 'move' } }),
    ...(quic && { quic: 'katran' }),
    ...(stable && { stable_udp: true }),
    ...(byTcpOption && { tcp_server_id: true }),
    ...(routes.length > 0 && { source_routes: routes }),
    backends: [...reals].map((real) => ({
      address: real,
      ...(!vip.reals.includes(real) && !vip.down.includes(real) && { weight: 0 }),
      ...(!vip.reals.includes(real) && vip.down.includes(real) && { state: 'draining' }),
      ...(named && { server_ids: idsOf(real) }),
    })),
  };
}

/** Name of a VIP's service. */
export function nameOf({ address, port, protocol }: KatranVip): string {
  return `${address.startsWith('fc') ? 'v6-' : ''}${address.replaceAll('::', '-')}-${port}-${protocol}`;
}

/** Those of the VIP's family: the others' packets do not come. */
function routesOf(setup: KatranSetup, vip: KatranVip): { prefix: string; backend: string }[] {
  const isIpv6 = (text: string): boolean => text.includes(':');
  return [...setup.sourceRoutes]
    .filter(([prefix]) => isIpv6(prefix) === isIpv6(vip.address))
    .map(([prefix, backend]) => ({ prefix, backend }));
}

/**
 * The way to a backend: everything to the router, from the address that all of Katran's frames come to. `fits`: bytes of the largest
 * packet that a backend can be sent, without the outer header; Katran has a limit for what comes in, not for what goes out.
 */
export function katranNextHop(setup: KatranSetup, fits: number): (address: string) => Partial<NextHop> {
  return (text) => {
    const outer = (parseAddress(text).family === 4 ? 20 : 40) + (setup.encap === 'gue' ? 8 : 0);
    return {
      interface: 'eth0',
      smac: parseMac('02:00:00:00:00:00'),
      dmac: parseMac(ROUTER_MAC),
      mtu: fits + outer,
    };
  };
}
