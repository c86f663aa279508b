/**
 * A filter for the daemon, about the smallest. In the config:
 *
 *     filters:
 *       - sanity
 *       - module: ./no-telnet-filter.ts
 *         options: { port: 23 }
 *       - rules
 */
import { defineFilter, FilterVerdict, IpProtocol } from 'sluice';

export default defineFilter({
  name: 'no-telnet',
  create({ options }) {
    const { port = 23 } = (options ?? {}) as { port?: number };
    if (!Number.isInteger(port) || port < 1 || port > 65535) throw new RangeError(`port ${port} is none`);
    return (packet) =>
      packet.protocol === IpProtocol.tcp && packet.destinationPort === port
        ? FilterVerdict.Drop
        : FilterVerdict.Continue;
  },
});
