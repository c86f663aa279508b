/** nftables that spread the services' packets over the backends. */
import { backendsBehind } from './topology.js';
import { BACKENDS, PORT, VIPS, WAYS, type Way } from './cases.js';

/** With conntrack, or by writing the destination of each packet alone. */
export function natRules(stateful: boolean): string {
  const target = (way: Way): string => {
    const map = backendsBehind(way)
      .map((address, i) => `${i} : ${address}`)
      .join(', ');
    return `jhash ip saddr . udp sport mod ${BACKENDS} map { ${map} }`;
  };
  const rules = WAYS.map((way) => {
    const match = `ip daddr ${VIPS[way]} udp dport ${PORT}`;
    return `    ${match} ${stateful ? 'dnat to' : 'ip daddr set'} ${target(way)}`;
  });
  const hook = stateful ? 'type nat hook prerouting priority dstnat' : 'type filter hook prerouting priority raw';
  return ['table ip balance {', '  chain prerouting {', `    ${hook};`, ...rules, '  }', '}', ''].join('\n');
}
