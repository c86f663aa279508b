/** What services must satisfy beyond the values of single keys: nothing ambiguous, nothing that cannot work. */
import { formatPrefix, prefixContains, sameAddress } from '../../shared/addr.js';
import type { PortRange } from '../../shared/config.js';
import { MAX_BACKENDS, MAX_SERVICES } from '../../shared/layout.js';
import { checkHash } from './check_hash.js';
import { checkHealth } from './check_health.js';
import { checkSteering } from './check_steering.js';
import type { Findings } from './findings.js';
import { checkNames } from './names.js';
import { hasPorts, protocolName } from './protocols.js';
import type { RouteFiles } from './route_files.js';
import type { Recovered, RecoveredService } from './schema.js';

/** Ring slots hold 16-bit positions in the service's list of backends (Tables.rings). */
const MAX_BACKENDS_PER_SERVICE = 65535;
/** Slots a backend below which shares get uneven: the Maglev paper, section 5.3, keeps M above 100 × N for 1 %. */
const SLOTS_PER_BACKEND = 100;

type Services = readonly (RecoveredService | undefined)[];

/** `directory` is what paths in the configuration are relative to. */
export function checkServices(
  { services = [], flows }: Recovered,
  directory: string,
  files: RouteFiles,
  findings: Findings,
): void {
  if (services.length > MAX_SERVICES) {
    findings.error(['services'], `there are ${services.length} services, at most ${MAX_SERVICES} fit`);
  }
  const backends = services.reduce((sum, service) => sum + (service?.backends?.length ?? 0), 0);
  if (backends > MAX_BACKENDS)
    findings.error(['services'], `there are ${backends} backends, at most ${MAX_BACKENDS} fit`);
  checkNames(services, ['services'], 'service', findings);
  services.forEach((service, i) => {
    if (service === undefined) return;
    checkPorts(service, i, findings);
    checkBackends(service, i, findings);
    checkFlood(service, flows, i, findings);
    checkHash(service, ['services', i], findings);
    checkSteering(service, ['services', i], directory, files, findings);
    checkHealth(service.health, service, ['services', i, 'health'], findings);
  });
  checkOverlaps(services, findings);
}

function checkPorts(service: RecoveredService, index: number, findings: Findings): void {
  const at = ['services', index];
  const { port, protocol } = service;
  if (protocol !== undefined) {
    if (protocol.length === 0) findings.error([...at, 'protocol'], 'is an empty list', 'Write any for all protocols.');
    if (protocol.length > 1 && protocol.includes('any'))
      findings.error([...at, 'protocol'], 'has any and others', 'Write any alone.');
    protocol.forEach((one, i) => {
      if (one !== undefined && protocol.indexOf(one) !== i)
        findings.error([...at, 'protocol', i], `${nameOf(one)} is there twice`);
    });
  }
  if (port === undefined) {
    const needed = protocol?.some((one) => typeof one === 'number' && hasPorts(one)) === true;
    if (needed && !findings.touched([...at, 'port'])) {
      findings.error([...at, 'port'], 'is missing', 'Write the port, or any for all ports.', 'key');
    }
    return;
  }
  if (port.length === 0) findings.error([...at, 'port'], 'is an empty list', 'Write any for all ports.');
  if (port.includes('any')) {
    if (port.length > 1) findings.error([...at, 'port'], 'has any and others', 'Write any alone.');
    return;
  }
  const portless = protocol?.find((one) => typeof one === 'number' && !hasPorts(one));
  if (portless !== undefined && port.some((one) => one !== undefined)) {
    findings.error(
      [...at, 'port'],
      `the protocol ${nameOf(portless)} has no ports`,
      'Write port: any, or leave the key out.',
    );
  }
  const sorted = port.filter((one): one is PortRange => typeof one === 'object').sort((a, b) => a.first - b.first);
  for (let i = 1; i < sorted.length; i++) {
    if (sorted[i].first <= sorted[i - 1].last) {
      findings.error([...at, 'port'], `${rangeText(sorted[i - 1])} and ${rangeText(sorted[i])} overlap`);
    }
  }
}

function checkBackends(service: RecoveredService, index: number, findings: Findings): void {
  const { backends, vip, ring_size: ringSize } = service;
  if (backends === undefined) return;
  const at = ['services', index, 'backends'];
  const first = new Map<string, number>();
  backends.forEach((backend, i) => {
    const address = backend?.address;
    if (address === undefined) return;
    const before = first.get(address.text);
    if (before === undefined) first.set(address.text, i);
    else {
      const line = findings.lineOf([...at, before]);
      findings.error(
        [...at, i, 'address'],
        `${address.text} is there twice, first on line ${line}`,
        'Give one of them a higher weight instead.',
      );
    }
    if (vip === undefined || !prefixContains(vip, address)) return;
    if (sameAddress(vip, address)) {
      findings.error(
        [...at, i, 'address'],
        `${address.text} is the service's own VIP`,
        "Write the backend's own address: packets to the VIP would come back here.",
      );
    } else {
      findings.warn(
        [...at, i, 'address'],
        `${address.text} lies in the service's own VIP ${formatPrefix(vip)}`,
        'Make sure that what is sent to it does not come back to this node.',
      );
    }
  });
  if (backends.length > MAX_BACKENDS_PER_SERVICE) {
    findings.error(at, `there are ${backends.length} backends, a service takes at most ${MAX_BACKENDS_PER_SERVICE}`);
  } else if (ringSize !== undefined && backends.length > ringSize) {
    findings.error(
      ['services', index, 'ring_size'],
      `${ringSize} slots are too few for ${backends.length} backends`,
      `Best are ${SLOTS_PER_BACKEND} slots a backend or more; the default is 65537.`,
    );
  } else if (ringSize !== undefined && backends.length * SLOTS_PER_BACKEND > ringSize) {
    findings.warn(
      ['services', index, 'ring_size'],
      `${ringSize} slots for ${backends.length} backends spread flows unevenly`,
      `With ${SLOTS_PER_BACKEND} slots a backend shares are within about 1 %.`,
    );
  }
  // A backend that was refused may be the one that would have taken flows.
  const takesFlows = backends.some(
    (backend) => backend === undefined || (backend.state === 'active' && backend.weight !== 0),
  );
  if (!takesFlows)
    findings.warn(['services', index], 'has no backend that takes new flows: its packets are dropped (no_backend)');
}

function checkFlood(service: RecoveredService, flows: Recovered['flows'], index: number, findings: Findings): void {
  const { flood, flow_table: flowTable } = service;
  const at = ['services', index, 'flood'];
  if (flood?.max_new_per_second === undefined || flood.above === undefined) return;
  const limited = flood.max_new_per_second > 0 || flows?.max_new_per_second !== 0;
  if (flowTable === false && (flood.max_new_per_second > 0 || flood.above === 'drop')) {
    findings.warn(at, 'means nothing: flow_table is false, and no flow is new where none is remembered');
  } else if (flood.above === 'drop' && !limited) {
    findings.warn(
      [...at, 'above'],
      'drops nothing: there is no limit to be above',
      'Write max_new_per_second, here or in flows.',
    );
  }
}

interface Claim extends PortRange {
  service: number;
}

/**
 * Two services may not claim the same port of the same prefix and protocol. A claim to any port, or of any protocol, goes
 * beside one that names it: the look-up takes the named one first. So does a longer prefix beside a shorter one.
 */
function checkOverlaps(services: Services, findings: Findings): void {
  const claims = new Map<string, Claim[]>();
  services.forEach((service, i) => {
    if (service?.vip === undefined || service.protocol === undefined) return;
    const prefix = formatPrefix(service.vip);
    const ports = service.port ?? ['any' as const];
    for (const protocol of service.protocol) {
      if (protocol === undefined) continue;
      for (const port of ports) {
        if (port === undefined) continue;
        const key = `${prefix} ${protocol} ${port === 'any' ? 'any' : 'port'}`;
        const claim = { first: 0, last: 65535, ...(port === 'any' ? {} : port), service: i };
        const list = claims.get(key);
        if (list === undefined) claims.set(key, [claim]);
        else list.push(claim);
      }
    }
  });
  const seen = new Set<string>();
  for (const [key, list] of claims) {
    list.sort((a, b) => a.first - b.first || a.service - b.service);
    let widest = list[0];
    for (const claim of list.slice(1)) {
      if (claim.first <= widest.last && claim.service !== widest.service) {
        reportOverlap(key, claim, widest, services, seen, findings);
      }
      if (claim.last > widest.last) widest = claim;
    }
  }
}

function reportOverlap(
  key: string,
  a: Claim,
  b: Claim,
  services: Services,
  seen: Set<string>,
  findings: Findings,
): void {
  const [earlier, later] = a.service < b.service ? [a, b] : [b, a];
  const pair = `${earlier.service} ${later.service}`;
  if (seen.has(pair)) return;
  seen.add(pair);
  const [prefix, protocol, kind] = key.split(' ');
  const ports =
    kind === 'any'
      ? 'any port'
      : `port ${rangeText({ first: Math.max(a.first, b.first), last: Math.min(a.last, b.last) })}`;
  const label = protocol === 'any' ? 'any protocol' : nameOf(Number(protocol));
  const other = services[earlier.service]?.name;
  const line = findings.lineOf(['services', earlier.service]);
  const owner = other === undefined ? `the service on line ${line}` : `service ${other} (line ${line})`;
  findings.error(
    ['services', later.service, 'vip'],
    `${label} ${ports} of ${prefix} belongs to ${owner} already`,
    'A packet must have one service: change the address, the protocol or the ports of one of them.',
  );
}

function nameOf(protocol: number | 'any'): string {
  return protocol === 'any' ? 'any' : protocolName(protocol);
}

function rangeText(range: PortRange): string {
  return range.first === range.last ? String(range.first) : `${range.first}-${range.last}`;
}
