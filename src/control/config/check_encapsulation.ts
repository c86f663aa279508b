/** Whether packets can travel to backends as the configuration says: outer sources, tunnels, chains of hops, decapsulation. */
import { addressBits, formatPrefix, maskWords, prefixContains } from '../../shared/addr.js';
import type { Prefix } from '../../shared/config.js';
import type { Findings } from './findings.js';
import { show, type Path } from './problem.js';
import type { Recovered, RecoveredEncapsulation, RecoveredService } from './schema.js';

const UDP = 17;

export function checkEncapsulation(config: Recovered, findings: Findings): void {
  const base = config.encapsulation;
  checkSource(base, ['encapsulation'], findings);
  config.services?.forEach((service, i) => {
    if (service !== undefined) checkService(service, base, ['services', i], findings);
  });
  checkDecapsulation(config, findings);
}

function checkSource(encapsulation: RecoveredEncapsulation | undefined, at: Path, findings: Findings): void {
  const source = encapsulation?.source;
  if (source === undefined) return;
  if (source.length === 0) {
    findings.error(
      [...at, 'source'],
      'is an empty list',
      'Leave the key out to take the address that the route prefers.',
    );
  }
  source.forEach((prefix, i) => {
    if (prefix !== undefined && !isOfHosts(prefix)) {
      const one = prefix.length === addressBits(prefix.family);
      findings.error(
        [...at, 'source', i],
        one
          ? `${show(prefix.text)} is not an address that a host can have`
          : `${formatPrefix(prefix)} has addresses that a host cannot have`,
      );
    }
    const before = source.findIndex((other) => other !== undefined && other.family === prefix?.family);
    if (prefix !== undefined && before < i)
      findings.error([...at, 'source', i], `is a second IPv${prefix.family} address`, 'Write one of each family.');
  });
}

/** Whether nothing of a prefix is unspecified, multicast or reserved. */
function isOfHosts({ family, words, length }: Prefix): boolean {
  if (length === addressBits(family) && words.every((word) => word === 0)) return false;
  const last = words[0] | ~maskWords(length)[0];
  return family === 4 ? length > 0 && last >>> 29 !== 7 : last >>> 24 !== 0xff;
}

function checkService(
  service: RecoveredService,
  base: RecoveredEncapsulation | undefined,
  at: Path,
  findings: Findings,
): void {
  const { encapsulation: own, vip, backends } = service;
  checkSource(own, [...at, 'encapsulation'], findings);
  // What was refused may have been the one that fits.
  if (findings.touched([...at, 'encapsulation']) || findings.touched(['encapsulation'])) return;
  const kind = own?.kind ?? base?.kind ?? 'ipip';
  const variant = own?.gue?.variant ?? base?.gue?.variant ?? 1;
  if (own?.gue !== undefined && kind !== 'gue') {
    findings.warn([...at, 'encapsulation', 'gue'], `means nothing: the kind is ${kind}`, 'Write kind: gue as well.');
  }
  if (own?.source !== undefined && kind === 'l2') {
    findings.warn([...at, 'encapsulation', 'source'], 'means nothing: with l2 there is no outer header');
  }
  if (kind === 'l2') {
    backends?.forEach((backend, i) => {
      if (vip === undefined || backend?.address === undefined || backend.address.family === vip.family) return;
      findings.warn(
        [...at, 'backends', i, 'address'],
        `is IPv${backend.address.family}, and with l2 it gets IPv${vip.family} packets as they are`,
        'Make sure that it has the VIP all the same.',
      );
    });
  }
  if (service.hops !== undefined && service.hops > 1) checkHops(service, kind, variant, at, findings);
}

function checkHops(service: RecoveredService, kind: string, variant: number, at: Path, findings: Findings): void {
  const { hops, hash, backends } = service;
  if (kind !== 'gue' || variant !== 0) {
    findings.error(
      [...at, 'hops'],
      `a chain of ${hops} hops needs the header of GUE variant 0, here it is ${kind === 'gue' ? 'GUE variant 1' : kind}`,
      'Write encapsulation: {kind: gue, gue: {variant: 0}}, or hops: 1.',
    );
  }
  if (hash === 'katran' || hash === 'katran-v2') {
    findings.error(
      [...at, 'hops'],
      `hash: ${hash} has no second hop: its rings are Katran's`,
      'Write hash: sluice, or hops: 1.',
    );
  }
  const families = backends?.map((backend) => backend?.address?.family) ?? [];
  const first = families.find((family) => family !== undefined);
  const strange = families.findIndex((family) => family !== undefined && family !== first);
  if (strange < 0) return;
  findings.error(
    [...at, 'backends', strange, 'address'],
    `is IPv${families[strange]}, and the first is IPv${first}: a chain of hops has one family`,
    'Make a service for each family, or write hops: 1.',
  );
}

function checkDecapsulation({ decapsulate, services }: Recovered, findings: Findings): void {
  const { addresses = [], from, gue_ports: ports = [] } = decapsulate ?? {};
  if (addresses.length > 0 && from?.length === 0) {
    findings.error(
      ['decapsulate', 'addresses'],
      'nobody may send to these addresses: there is no decapsulate.from',
      'Write the outer sources that may, for example from: [10.0.0.0/8].',
    );
  }
  if (addresses.length === 0 && from !== undefined && from.length > 0 && !findings.touched(['decapsulate'])) {
    findings.warn(['decapsulate', 'from'], 'means nothing: there are no decapsulate.addresses');
  }
  repeated(addresses, (address) => address.text, ['decapsulate', 'addresses'], findings);
  repeated(ports, String, ['decapsulate', 'gue_ports'], findings);
  services?.forEach((service, i) => {
    const { vip, protocol, port } = service ?? {};
    if (vip === undefined || !protocol?.some((one) => one === UDP || one === 'any')) return;
    const address = addresses.find((one) => one !== undefined && prefixContains(vip, one));
    // Any port leaves the tunnel its own.
    const claimed = ports.find((one) =>
      port?.some((range) => typeof range === 'object' && one !== undefined && range.first <= one && one <= range.last),
    );
    if (address === undefined || claimed === undefined) return;
    findings.error(
      ['services', i, 'port'],
      `UDP port ${claimed} of ${address.text} is that of tunnels to this node (decapsulate)`,
      'Take another port or address for one of them.',
    );
  });
}

function repeated<T>(list: readonly (T | undefined)[], text: (entry: T) => string, at: Path, findings: Findings): void {
  const seen = new Set<string>();
  list.forEach((entry, i) => {
    if (entry === undefined) return;
    if (seen.has(text(entry))) findings.error([...at, i], `${text(entry)} is there twice`);
    seen.add(text(entry));
  });
}
