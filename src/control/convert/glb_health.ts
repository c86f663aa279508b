/** glb-healthcheck's checks (docs/setup/glb-healthcheck-configuration.md) as the `health` of a service. */
import type { DraftHealth, Notes } from './draft.js';
import { isMap, type Part } from './glb_parts.js';

/** For all checks of a file. */
export interface GlbTimes {
  intervalMs: number;
  timeoutMs: number;
  /** Results in a row that change a backend's health, either way. */
  trigger: number;
}

const DAY_MS = 86_400_000;

export function glbTimes(root: Part, notes: Notes): GlbTimes {
  const given = isMap(root.json.healthchecks) ? root.json.healthchecks : {};
  const number = (key: string, usual: number, least: number, most: number): number => {
    const value = given[key] ?? usual;
    if (typeof value === 'number' && value >= least && value <= most) return Math.round(value);
    notes.lost(
      root.place('healthchecks'),
      `${key} is not a number from ${least} to ${most}`,
      `Here it is ${usual}, GLB’s default.`,
    );
    return usual;
  };
  return {
    intervalMs: number('interval_ms', 2000, 100, DAY_MS),
    timeoutMs: number('timeout_ms', 1000, 100, DAY_MS),
    trigger: number('trigger', 3, 1, 255),
  };
}

/**
 * One check for all backends: that of the first which has one.
 * GLB checks port (http, tcp) and tunnel (gue) one beside the other; through the tunnel one check does both, when the port is the VIP's.
 */
export function glbHealth(
  backends: readonly Part[],
  ports: readonly (number | string)[],
  times: GlbTimes,
  notes: Notes,
): DraftHealth | null {
  const checked = backends.filter(({ json }) => isMap(json.healthchecks) && Object.keys(json.healthchecks).length > 0);
  if (checked.length === 0) return null;
  const [first] = checked;
  const checks = first.json.healthchecks as Part['json'];
  const place = first.place('healthchecks');
  for (const other of backends) {
    if (JSON.stringify(other.json.healthchecks) === JSON.stringify(checks)) continue;
    notes.changed(
      other.place('healthchecks'),
      `is checked as the backend on line ${first.place().line} is: a service has one check`,
      'Make another service of it when that cannot be.',
    );
  }
  if (checks.fou !== undefined) notes.lost(place, 'a check of FOU', 'The tunnel is GUE: through: tunnel checks that.');
  const type = checks.http !== undefined ? 'http' : 'tcp';
  const port = checks[type] ?? (checks.gue === undefined ? undefined : firstPort(ports));
  if (typeof port !== 'number' || !Number.isInteger(port) || port < 1 || port > 65535) {
    notes.lost(place, 'a check without a port that could be checked', 'Write the service’s health.');
    return null;
  }
  const tunnel = checks.gue !== undefined && ports.some((range) => contains(range, port));
  if (checks.gue !== undefined && !tunnel) {
    notes.changed(
      place,
      `port ${port} is checked at the backend’s own address, and the tunnel is not: the port is not one of the VIP’s`,
      'Write through: tunnel, with a port of the VIP, to check what clients get.',
    );
  } else if (checks.gue !== undefined) {
    notes.changed(place, 'the checks of the port and of the tunnel are one: the port of the VIP, through the tunnel');
  }
  const health: DraftHealth = { type, port };
  if (type === 'http' && checks.http_uri !== undefined) {
    const path = checks.http_uri;
    if (typeof path === 'string' && /^\/[\x21-\x7e]{0,1000}$/.test(path)) health.path = path;
    else notes.lost(place, 'http_uri is not a path', 'Here it is "/".');
  }
  if (times.intervalMs !== 2000) health.interval = `${times.intervalMs}ms`;
  if (times.timeoutMs !== 1000) health.timeout = `${times.timeoutMs}ms`;
  health.rise = times.trigger;
  health.fall = times.trigger;
  if (tunnel) health.through = 'tunnel';
  return health;
}

function firstPort(ports: readonly (number | string)[]): number | undefined {
  const first = ports.map((range) => Number(String(range).split('-')[0])).find((port) => port > 0);
  return first;
}

function contains(range: number | string, port: number): boolean {
  const [first, last = first] = String(range).split('-').map(Number);
  return first <= port && port <= last;
}
