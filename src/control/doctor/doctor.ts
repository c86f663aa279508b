/** Looks at the machine and at its interfaces, and says what stands in sluice's way. Changes nothing. */
import { nearest } from '../config/nearest.js';
import { reportOf, type Finding, type Report } from './finding.js';
import { checkHost } from './host.js';
import { checkLink } from './link_checks.js';
import { interfaceNames, readLinkFacts, type LinkFacts } from './link_facts.js';
import type { DoctorSystem } from './system.js';
import { parseVersion } from './version.js';

export interface DoctorOptions {
  /** Interfaces to look at; [] means all but lo. */
  interfaces: string[];
  /** Frames a worker and bytes a frame, as in the configuration: how much memory has to be locked. */
  frameCount: number;
  frameSize: number;
}

export function runDoctor(system: DoctorSystem, options: DoctorOptions): Report {
  const known = interfaceNames(system);
  const named = options.interfaces.length > 0;
  const context = { kernel: parseVersion(system.kernel), cpus: system.cpus, named };
  const links: Finding[] = [];
  let workers = 0;
  for (const name of named ? [...new Set(options.interfaces)] : known) {
    const facts: LinkFacts | null = readLinkFacts(system, name);
    if (!facts) {
      links.push(missing(name, known));
      continue;
    }
    workers += facts.rxQueues;
    links.push(...checkLink(facts, context));
  }
  if (!named && known.length === 0) {
    const text = 'there is no interface but lo in this network namespace';
    links.push({
      level: 'warn',
      subject: 'host',
      check: 'interfaces',
      text,
      fix: 'ip netns list; ip netns exec NAME sluice doctor',
    });
  }
  // Without a named interface nobody knows how many workers there will be: one queue's worth is the least.
  const umemBytes = (named ? Math.max(workers, 1) : 1) * options.frameCount * options.frameSize;
  return reportOf(system.kernel, [...checkHost(system, { umemBytes }), ...links]);
}

function missing(name: string, known: string[]): Finding {
  const near = nearest(name, known);
  const there = known.length > 0 ? `there are: ${known.join(', ')}` : 'there is none but lo';
  const text = `no interface ${name} in this network namespace; ${near ? `did you mean ${near}? ` : ''}${there}`;
  return { level: 'bad', subject: name, check: 'interface', text, fix: 'ip -br link' };
}
