import type { Config, ConfigProblem } from '../../shared/config.js';
import type { NextHop } from '../routes.js';
import type { ManagedInterface } from './managed_interface.js';

/** Backends that packets could not get to, as mistakes of the configuration: no route, or no queue to leave by. */
export function unreachable(
  config: Config,
  hops: ReadonlyMap<string, NextHop>,
  interfaces: readonly ManagedInterface[],
): ConfigProblem[] {
  const workers = new Set(interfaces.flatMap((entry) => entry.queues));
  const problems: ConfigProblem[] = [];
  config.services.forEach((service, s) => {
    service.backends.forEach(({ address }, b) => {
      const hop = hops.get(address.text);
      if (!hop) return;
      const problem = (message: string, remedy: string): void => {
        const path = `services[${s}].backends[${b}].address`;
        const text = `backend ${address.text} of service ${service.name} ${message}`;
        problems.push({ file: config.path, line: 0, column: 0, path, message: text, remedy });
      };
      if (hop.interface === '') {
        const remedy = `Add one: ip route add ${address.text} via GATEWAY dev INTERFACE`;
        // The resolver's sentence names the backend, as this one does.
        const why = (hop.error ?? 'unreachable').replace(/^backend \S+ has no route: /, '');
        problem(`has no route: ${why}`, remedy);
        return;
      }
      // A worker sends by the queue of its own number: the kernel binds a queue to one packet memory, and that is the worker's.
      const way = interfaces.find((entry) => entry.name === hop.interface);
      const without = way?.attached ? [...workers].filter((queue) => !way.queues.includes(queue)) : [];
      if (!way || without.length === 0) return;
      problem(
        `is reached by ${way.name}, which sluice serves on ${way.queues.length} of the ${workers.size} queues that packets ` +
          `come in on: what arrives on queue ${without.join(', ')} could not leave`,
        `Give all interfaces the same queues: ethtool -L ${way.name} combined ${Math.max(...workers) + 1}, or set queues for the others`,
      );
    });
  });
  return problems;
}
