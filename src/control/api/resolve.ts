import { SluiceError } from '../../errors.js';
import { parseAddress } from '../../shared/addr.js';
import { nearest } from '../config/nearest.js';

/** What `resolveBackend` looks through: services by name, their backends by address. */
interface Named {
  name: string;
  backends: readonly { address: string }[];
}

/**
 * The service and the backend that two names mean; an address may be written in any way that is one (FD00:0::1 is fd00::1).
 * Throws SLUICE_USAGE with the nearest name, or with what there is.
 * `service` may be left out (undefined) when the address is a backend of one service only.
 */
export function resolveBackend<Service extends Named>(
  services: readonly Service[],
  service: string | undefined,
  backend: string,
): { service: Service; backend: Service['backends'][number] } {
  const among = service === undefined ? services : [findService(services, service)];
  const wanted = canonical(backend);
  const hits = among.flatMap((candidate) =>
    candidate.backends
      .filter(({ address }) => address === wanted)
      .map((found) => ({ service: candidate, backend: found })),
  );
  if (hits.length === 1) return hits[0];
  if (hits.length > 1) {
    const names = listed(hits.map((hit) => hit.service.name));
    throw new SluiceError(
      'SLUICE_USAGE',
      `backend ${backend} is in more than one service: ${names}`,
      'Name the service.',
    );
  }
  const addresses = among.flatMap((candidate) => candidate.backends.map(({ address }) => address));
  const where = service === undefined ? 'no service has' : `service "${service}" has`;
  throw new SluiceError(
    'SLUICE_USAGE',
    service === undefined ? `${where} a backend "${backend}"` : `${where} no backend "${backend}"`,
    hint(backend, addresses, 'backends'),
  );
}

function canonical(address: string): string {
  try {
    return parseAddress(address).text;
  } catch {
    return address;
  }
}

/** The service of that name; throws SLUICE_USAGE with the nearest one. */
export function findService<Service extends { name: string }>(services: readonly Service[], name: string): Service {
  const found = services.find((candidate) => candidate.name === name);
  if (found !== undefined) return found;
  throw new SluiceError(
    'SLUICE_USAGE',
    `there is no service "${name}"`,
    hint(
      name,
      services.map((candidate) => candidate.name),
      'services',
    ),
  );
}

function hint(name: string, candidates: readonly string[], what: string): string {
  if (candidates.length === 0) return `There are no ${what}.`;
  const meant = nearest(name, candidates);
  return meant === null ? `The ${what} are: ${listed(candidates)}.` : `Did you mean "${meant}"?`;
}

function listed(names: readonly string[]): string {
  const shown = [...new Set(names)];
  return shown.length <= 8 ? shown.join(', ') : `${shown.slice(0, 8).join(', ')} and ${shown.length - 8} more`;
}
