/**
 * A filter for the daemon. In the config:
 *
 *   filters:
 *     - sanity
 *     - module: ./no-telnet-filter.ts
 *       options: { port: 23 }
 *     - rules
 */
import { defineFilter, FilterVerdict, IpProtocol } from 'sluice';

export default defineFilter({
  name: 'no-telnet',
  create({ options }) {
    const { port = 23 } = (options ?? {}) as { port?: number };
    return (packet) =>
      packet.protocol === IpProtocol.tcp && packet.destinationPort === port
        ? FilterVerdict.Drop
        : FilterVerdict.Continue;
  },
});
