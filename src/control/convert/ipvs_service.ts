/** One virtual service of IPVS as a service of sluice, and what IPVS does that sluice does not. */
import { formatPrefix, sameAddress } from '../../shared/addr.js';
import type { DraftBackend, DraftEncapsulation, DraftService, Notes } from './draft.js';
import type { Forwarding, RealServer, VirtualService } from './ipvs_table.js';
import { cut } from './options.js';
import { Unreadable, backendOf, fitWeights, nameFrom } from './places.js';

/** null when nothing of it can be kept; the notes say why. `taken`: names of services, to which this one's is added. */
export function ipvsService(service: VirtualService, taken: Set<string>, notes: Notes): DraftService | null {
  const { place, protocol, address, port } = service;
  if (port === 0 && service.persistent === null) {
    notes.lost(place, 'has no port, and is not persistent: the kernel refuses it as well');
    return null;
  }
  const reals = usable(service, notes);
  const encapsulation = encapsulationOf(service, reals, notes);
  const fields = hashFieldsOf(service, notes);
  if (service.onePacket) {
    notes.changed(place, 'packets of one flow go to one backend, where --ops spreads them (here: flow_table: false)');
  }
  const text = formatPrefix(address);
  return {
    name: nameFrom(`${protocol}-${text}-${port === 0 ? 'any' : port}`, taken),
    vip: text,
    port: port === 0 ? 'any' : [port],
    protocol,
    ...(service.onePacket && { flow_table: false as const }),
    ...(encapsulation && { encapsulation }),
    ...(fields && { hash_fields: fields }),
    backends: backendsOf(service, reals, notes),
  };
}

/** Real servers that sluice can send to, one an address. */
function usable(service: VirtualService, notes: Notes): RealServer[] {
  const kept: RealServer[] = [];
  for (const real of service.reals.values()) {
    const { place, address, port } = real;
    try {
      backendOf(formatPrefix(address));
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      notes.lost(place, error.message, error.remedy);
      continue;
    }
    if (sameAddress(address, service.address)) {
      notes.lost(
        place,
        `the real server ${address.text} is the VIP itself`,
        'A node of sluice is no backend of its own services.',
      );
      continue;
    }
    const before = kept.find((other) => sameAddress(other.address, address));
    if (before) {
      notes.lost(
        place,
        `${address.text} is a real server already, with another port (line ${before.place.line})`,
        'A backend has one address; give the second process an address of its own.',
      );
      continue;
    }
    if (port !== null && port !== service.port) {
      notes.lost(
        place,
        `packets reach ${address.text} with port ${service.port}, not ${port}: nothing is rewritten on the way to a backend`,
        `Let the server listen on port ${service.port} of the VIP, or redirect on the server: nft … ${service.protocol} dport ${service.port} redirect to :${port}`,
      );
    }
    if (real.limited)
      notes.lost(place, 'limits of connections (-x, -y)', 'Let the server refuse, or give it less weight.');
    kept.push(real);
  }
  return kept;
}

/** One for all backends: the commonest, and of those that are as common the first. */
function encapsulationOf(
  service: VirtualService,
  reals: readonly RealServer[],
  notes: Notes,
): DraftEncapsulation | null {
  const counts = new Map<Forwarding, number>();
  for (const { forwarding } of reals) counts.set(forwarding, (counts.get(forwarding) ?? 0) + 1);
  const [chosen] = [...counts].sort((a, b) => b[1] - a[1])[0] ?? ['ipip'];
  for (const { forwarding, place } of reals) {
    if (forwarding === 'masquerading') {
      notes.lost(
        place,
        'masquerading (-m): backends answer clients themselves (direct server return), addresses and ports stay as they are',
        'Put the VIP on the backend’s loopback and take the tunnel off there: sluice backend-agent, or docs/migrating.md.',
      );
    } else if (forwarding === 'gre') {
      notes.lost(place, 'GRE tunnels (--tun-type gre)', 'Use an ipip or GUE tunnel on the backend: here it is ipip.');
    }
    if (nearest(forwarding) !== nearest(chosen)) {
      notes.changed(
        place,
        `its packets come as the service’s others do, by ${nearest(chosen)}, not ${nearest(forwarding)}: a service has one encapsulation`,
        'Make two services of it when that cannot be.',
      );
    }
  }
  const kind = nearest(chosen);
  if (kind === 'l2') {
    const strange = reals.find(({ address }) => address.family !== service.address.family);
    if (strange === undefined) return { kind };
    notes.lost(strange.place, 'direct routing (-g) to the other address family', 'Here the service has ipip.');
    return null;
  }
  if (kind === 'ipip') return null;
  return gueOf(
    reals.filter(({ forwarding }) => forwarding === 'gue'),
    notes,
  );
}

function nearest(forwarding: Forwarding): 'ipip' | 'gue' | 'l2' {
  if (forwarding === 'gatewaying') return 'l2';
  return forwarding === 'gue' ? 'gue' : 'ipip';
}

/** IPVS writes GUE variant 0 (net/netfilter/ipvs/ip_vs_xmit.c, ipvs_gue_encap). */
function gueOf(reals: readonly RealServer[], notes: Notes): DraftEncapsulation {
  const [{ tunnel }] = reals;
  for (const { place, tunnel: other } of reals) {
    if (other.port !== tunnel.port || other.checksum !== tunnel.checksum) {
      notes.changed(place, `its tunnel has the port and checksum of the service’s first, ${tunnel.port || 6080}`);
    }
    if (other.remoteChecksum)
      notes.changed(place, 'remote checksum offload (--tun-remcsum): the outer checksum is computed instead');
  }
  // The kernel wants a port and ipvsadm has no default for it; 6080 is IANA's.
  return {
    kind: 'gue',
    gue: { port: tunnel.port || 6080, variant: 0, ...(tunnel.checksum && { checksum: 'computed' as const }) },
  };
}

const BY_LOAD = ['wlc', 'lc', 'sed', 'nq', 'twos'];
const IN_TURN = ['rr', 'wrr'];
const BY_HASH = ['sh', 'mh'];

/** null: the default, all of the five-tuple. */
function hashFieldsOf(service: VirtualService, notes: Notes): string[] | null {
  const { place, scheduler, schedulerFlags, persistent } = service;
  const has = (name: string, bit: string): boolean =>
    schedulerFlags.includes(`${scheduler}-${name}`) || schedulerFlags.includes(bit);
  const withPort = has('port', 'flag-2');
  if (BY_LOAD.includes(scheduler)) {
    notes.changed(place, `${scheduler} looks at open connections: here flows are spread by hash and weight alone`);
  } else if (IN_TURN.includes(scheduler)) {
    notes.changed(
      place,
      `${scheduler} takes real servers in turn: here flows are spread by hash and weight, even only in the mean`,
    );
  } else if (BY_HASH.includes(scheduler)) {
    notes.changed(place, `${scheduler} has another table: a client may find another backend than with IPVS`);
    if (!has('fallback', 'flag-1')) {
      notes.changed(
        place,
        `without ${scheduler}-fallback IPVS drops what hashes to a server of weight 0: here it goes to another`,
      );
    }
  } else if (['dh', 'lblc', 'lblcr'].includes(scheduler)) {
    notes.changed(
      place,
      `${scheduler} goes by destination: all flows to one address go to one backend (hash_fields: [dst])`,
    );
  } else if (scheduler !== 'fo') {
    notes.lost(place, `the scheduler ${cut(scheduler)}`, 'Here flows are spread by hash and weight.');
  }
  if (persistent === null) {
    if (BY_HASH.includes(scheduler)) return withPort ? ['src', 'sport'] : ['src'];
    return ['dh', 'lblc', 'lblcr'].includes(scheduler) ? ['dst'] : null;
  }
  notes.changed(
    place,
    `persistence is by hash of the source, not remembered for ${persistent} s: a client keeps its backend until the backends change`,
  );
  if (service.netmask !== null && !/^(255\.255\.255\.255|128)$/.test(service.netmask)) {
    notes.lost(place, `persistence of whole networks (-M ${cut(service.netmask)}): here it is by address`);
  }
  if (service.engine !== null)
    notes.lost(place, `the persistence engine ${cut(service.engine)}`, 'sluice does not look into payloads.');
  return ['src'];
}

function backendsOf(service: VirtualService, reals: readonly RealServer[], notes: Notes): DraftBackend[] {
  const { scheduler, place } = service;
  const { weights, exact } = fitWeights(reals.map(({ weight }) => weight));
  if (!exact) notes.changed(place, 'weights are rounded to proportions of at most 65535');
  const most = Math.max(...weights);
  const first = weights.indexOf(most);
  if (scheduler === 'fo' && reals.length > 1) {
    notes.lost(
      place,
      `fail-over (fo): ${reals[first].address.text} has the highest weight and takes all, the others are inactive`,
      'Switch by hand with sluice backend activate and deactivate, or make all active with health: tcp.',
    );
  }
  const turns = scheduler === 'rr' && weights.some((weight) => weight > 1);
  if (turns) notes.changed(place, 'rr does not look at weights, so they are left out');
  return reals.map(({ address }, i): DraftBackend => {
    const backend: DraftBackend = { address: address.text };
    // A quiescent server: "will receive no new jobs but still serve the existing jobs".
    if (weights[i] === 0) return { ...backend, state: 'draining' };
    if (scheduler === 'fo') return i === first ? backend : { ...backend, state: 'inactive' };
    if (scheduler !== 'rr' && weights[i] !== 1) backend.weight = weights[i];
    return backend;
  });
}
