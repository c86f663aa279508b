/** What names a backend before the ring is asked: ids in packets, source prefixes. */
import { resolve } from 'node:path';
import { SluiceError } from '../../errors.js';
import { formatPrefix } from '../../shared/addr.js';
import type { SourceRoute } from '../../shared/config.js';
import { QuicLbLimit } from '../../shared/quic_lb.js';
import { formatServerId } from '../../shared/server_ids.js';
import type { Findings } from './findings.js';
import type { Path } from './problem.js';
import type { RouteFiles } from './route_files.js';
import type { RecoveredService } from './schema.js';

const TCP = 6;
const UDP = 17;

/** `directory` is what paths in the configuration are relative to. */
export function checkSteering(
  service: RecoveredService,
  at: Path,
  directory: string,
  files: RouteFiles,
  findings: Findings,
): void {
  checkProtocols(service, at, findings);
  checkQuic(service, [...at, 'quic'], findings);
  checkServerIds(service, at, findings);
  checkRoutes(service, [...at, 'source_routes'], directory, files, findings);
}

function checkProtocols(service: RecoveredService, at: Path, findings: Findings): void {
  const { protocol, quic, tcp_server_id: tcpServerId, stable_udp: stableUdp } = service;
  // A protocol that was refused may have been the one.
  if (protocol === undefined || protocol.includes(undefined)) return;
  const has = (wanted: number): boolean => protocol.includes(wanted) || protocol.includes('any');
  const asked: [key: string, set: boolean, protocol: number, name: string][] = [
    ['quic', quic !== undefined, UDP, 'udp'],
    ['stable_udp', stableUdp === true, UDP, 'udp'],
    ['tcp_server_id', tcpServerId === true, TCP, 'tcp'],
  ];
  for (const [key, set, wanted, name] of asked) {
    if (!set || has(wanted)) continue;
    findings.error([...at, key], `the service takes no ${name}`, `Write protocol: ${name}, or take ${key} out.`, 'key');
  }
  if (service.drain?.udp === 'move' && !has(UDP)) {
    findings.warn([...at, 'drain', 'udp'], 'means nothing: the service takes no udp');
  }
  const { mss_clamp: clamp } = service;
  if (clamp !== undefined && clamp !== 'off' && !has(TCP)) {
    findings.warn([...at, 'mss_clamp'], 'means nothing: the service takes no tcp');
  }
}

function checkQuic({ quic }: RecoveredService, at: Path, findings: Findings): void {
  if (quic === undefined || findings.touched(at)) return;
  const { katran, quic_lb: configs } = quic;
  if (katran !== undefined && configs !== undefined) {
    findings.error(at, "is Katran's and QUIC-LB at once", 'A service reads connection ids in one way: keep one.');
    return;
  }
  if (katran === undefined && (configs === undefined || configs.length === 0)) {
    findings.error(at, 'does not say how connection ids hold a server id', 'Write katran, or quic_lb: [...].');
    return;
  }
  const first = new Map<number, number>();
  configs?.forEach((config, i) => {
    const { rotation, server_id_length: id, nonce_length: nonce } = config ?? {};
    const before = rotation === undefined ? undefined : first.get(rotation);
    if (before !== undefined) {
      findings.error(
        [...at, 'quic_lb', i, 'rotation'],
        `rotation ${rotation} is there twice, first on line ${findings.lineOf([...at, 'quic_lb', before])}`,
        'Give each configuration its own, from 0 to 6.',
      );
    } else if (rotation !== undefined) first.set(rotation, i);
    if (id !== undefined && nonce !== undefined && id + nonce > QuicLbLimit.bytesMost) {
      findings.error(
        [...at, 'quic_lb', i, 'nonce_length'],
        `server id and nonce have ${id + nonce} bytes together, a connection id has room for ${QuicLbLimit.bytesMost}`,
        `Write at most ${QuicLbLimit.bytesMost - id}.`,
      );
    }
  });
}

function checkServerIds(service: RecoveredService, at: Path, findings: Findings): void {
  const { quic, tcp_server_id: tcpServerId, stable_udp: stableUdp, backends = [] } = service;
  const lengths = quic?.quic_lb?.map((config) => config?.server_id_length);
  const numbers = quic?.katran === true || tcpServerId === true || stableUdp === true;
  const owners = new Map<string, number>();
  let unread = -1;
  backends.forEach((backend, b) => {
    backend?.server_ids?.forEach((id, i) => {
      if (id === undefined) return;
      const where = [...at, 'backends', b, 'server_ids', i];
      const text = formatServerId(id);
      const before = owners.get(text);
      if (before !== undefined) {
        findings.error(
          where,
          `server id ${text} is there twice, first on line ${findings.lineOf([...at, 'backends', before])}`,
          'Give every backend of a service ids of its own.',
        );
      }
      owners.set(text, before ?? b);
      if (id.length > 0 ? lengths === undefined : !numbers) unread = unread < 0 ? b : unread;
      else if (id.length > 0 && lengths?.every((length) => length !== undefined && length !== id.length)) {
        findings.error(
          where,
          `server id ${text} has ${id.length} bytes, and quic_lb says ${lengths.join(' or ')}`,
          'Write as many bytes as server_id_length says.',
        );
      }
    });
  });
  if (unread >= 0 && !findings.touched([...at, 'quic'])) {
    findings.warn(
      [...at, 'backends', unread, 'server_ids'],
      'nothing in packets is read as such an id',
      'Numbers are for quic: katran, tcp_server_id and stable_udp; hex: is for quic: {quic_lb: [...]}.',
    );
  }
  if ((numbers || lengths !== undefined) && owners.size === 0 && !findings.touched([...at, 'backends'])) {
    const key = quic !== undefined ? 'quic' : tcpServerId === true ? 'tcp_server_id' : 'stable_udp';
    findings.warn(
      [...at, key],
      'no backend has server_ids: every packet goes by flow table and ring',
      'Give backends the ids that their servers put into packets.',
    );
  }
}

function checkRoutes(
  service: RecoveredService,
  at: Path,
  directory: string,
  files: RouteFiles,
  findings: Findings,
): void {
  const { source_routes: routes, backends, vip } = service;
  // Who is not in the list may be one that was refused.
  const complete = backends?.every((backend) => backend?.address !== undefined) === true;
  const known = new Set(backends?.map((backend) => backend?.address?.text));
  const first = new Map<string, number>();
  routes?.forEach((route, i) => {
    if (route === undefined || findings.touched([...at, i])) return;
    const { file, prefix, backend } = route;
    if (file !== undefined) {
      if (prefix !== undefined || backend !== undefined) {
        findings.error([...at, i], 'is a file and a route at once', 'Make each an entry of its own.');
      } else checkFile(files.read(resolve(directory, file)), complete ? known : null, [...at, i, 'file'], findings);
      return;
    }
    if (prefix === undefined || backend === undefined) {
      findings.error(
        [...at, i],
        'has no file, and not both prefix and backend',
        'Write {prefix: 192.0.2.0/24, backend: 10.0.0.11}.',
      );
      return;
    }
    const text = formatPrefix(prefix);
    const before = first.get(text);
    if (before !== undefined) {
      findings.error([...at, i, 'prefix'], `${text} is there twice, first on line ${findings.lineOf([...at, before])}`);
    } else first.set(text, i);
    if (vip !== undefined && vip.family !== prefix.family) {
      findings.error([...at, i, 'prefix'], `no packet has it: the VIP is IPv${vip.family}`, 'Take the route out.');
    }
    if (complete && !known.has(backend.text)) {
      findings.error([...at, i, 'backend'], `${backend.text} is not a backend of the service`, NOT_A_BACKEND);
    }
  });
}

const NOT_A_BACKEND = 'Add it to the backends; with weight: 0 it gets nothing but its routes.';

function checkFile(
  routes: SourceRoute[] | SluiceError,
  known: ReadonlySet<string | undefined> | null,
  at: Path,
  findings: Findings,
): void {
  if (routes instanceof SluiceError) {
    findings.error(at, routes.message, routes.remedy);
    return;
  }
  const stranger = known && routes.find(({ backend }) => !known.has(backend.text));
  if (!stranger) return;
  findings.error(
    at,
    `sends ${formatPrefix(stranger.prefix)} to ${stranger.backend.text}, which is not a backend of the service`,
    NOT_A_BACKEND,
  );
}
