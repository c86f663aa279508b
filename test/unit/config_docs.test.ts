import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseDocument } from 'yaml';
import { loadConfig, parseConfig } from '../../src/control/config/index.js';
import { schemaKeys } from '../../src/control/config/schema_doc.js';
import type { Config } from '../../src/shared/config.js';

const root = new URL('../../', import.meta.url).pathname;
const page = readFileSync(join(root, 'docs/configuration.md'), 'utf8');

interface Row {
  path: string;
  default: string;
  example: string;
}

/** Rows of the tables under "## Keys": | `key` | type | default | example | meaning | */
const rows: Row[] = page
  .slice(page.indexOf('\n## Keys'), page.indexOf('\n## What a reload'))
  .split('\n')
  .filter((line) => line.startsWith('| `'))
  .map((line) => line.slice(2).split(/ *\| */))
  .map((cells) => ({ path: cells[0].slice(1, -1), default: cells[2], example: cells[3] }));

const code = (cell: string): string | null => /^`([^`]+)`$/.exec(cell)?.[1] ?? null;

/** A configuration in which every entry of every list is there once. */
const BASE = `
interfaces: [{name: eth9}]
services: [{name: base, vip: 198.51.100.200, port: 7, backends: [{address: 10.9.9.9}]}]
filters: [{sanity: {}}, {module: ./base.ts}, {rules: {}}]
rules: [{name: base, match: {}, action: count}]
sets: [{name: blocked, type: 'hash:net'}]
`;

/** What a key needs beside it: set before the key itself. A key with a dot is below another. */
const COMPANIONS: readonly [path: RegExp, values: Record<string, unknown>][] = [
  [/\.(quic|stable_udp|server_ids|udp)\b/, { 'services[].protocol': ['tcp', 'udp'] }],
  [/\.quic_lb\[\]/, { 'services[].quic': { quic_lb: [{ server_id_length: 4, nonce_length: 6 }] } }],
  [/^services\[\]\.glb\b/, { 'services[].hash': 'glb' }],
  [/^services\[\]\.glb\./, { 'services[].glb': { hash_key: '0'.repeat(32), seed: '0'.repeat(32) } }],
  [/\.hops$/, { encapsulation: { kind: 'gue', gue: { variant: 0 } } }],
  [
    /\.source_routes\[\]\.(prefix|backend)$/,
    { 'services[].source_routes': [{ prefix: '192.0.2.0/25', backend: '10.9.9.9' }] },
  ],
  [/\.source_routes\[\]\.file$/, { 'services[].source_routes': [{}] }],
  [/^decapsulate\./, { decapsulate: { addresses: ['10.0.0.1'], from: ['10.1.0.0/16'] } }],
  [/^rules\[\]\.sample\b/, { 'rules[].action': 'sample' }],
  [/^rules\[\]\.sample\./, { 'rules[].sample': { one_in: 5 } }],
  [/^rules\[\]\.limit\b/, { 'rules[].action': 'limit' }],
  [/^rules\[\]\.limit\./, { 'rules[].limit': { rate: '10/s' } }],
  [/^rules\[\]\.limit\.dst_/, { 'rules[].limit.per': ['src', 'dst'] }],
  [/^mitigation\.limits\[\]\./, { mitigation: { limits: [{ name: 'base', rate: '10/s' }] } }],
  [/^mitigation\.limits\[\]\.dst_/, { 'mitigation.limits[].per': ['src', 'dst'] }],
  [/^mitigation\.limits\[\]\.connections/, { 'mitigation.limits': [{ name: 'base' }] }],
  [/^rules.*\.dns\.response$/, { 'rules[].match.dns': { qtype: 'A' } }],
  [/^mitigation.*\.dns\.response$/, { 'mitigation.limits[].match': { dns: { qtype: 'A' } } }],
  [/\.match\.set\[\]\.key$/, { 'rules[].match.set': [{ name: 'blocked' }] }],
  [/^mitigation.*\.set\[\]\.key$/, { 'mitigation.limits[].match': { set: [{ name: 'blocked' }] } }],
  [/\.health\./, { 'services[].health': {} }],
  [/\.health\.(path|method|host|status|body)$/, { 'services[].health': { type: 'http' } }],
  [/\.health\.tls\b/, { 'services[].health': { type: 'https', host: 'example.com', tls: {} } }],
  [/\.health\.(request|expect)$/, { 'services[].health': { type: 'udp' } }],
  [/\.health\.(name|record|rcode|answer)$/, { 'services[].health': { type: 'dns' } }],
];

function stepsOf(path: string): (string | number)[] {
  return path.split('.').flatMap((step) => (step.endsWith('[]') ? [step.slice(0, -2), 0] : [step]));
}

describe('docs/configuration.md', () => {
  let directory = '';
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'sluice-docs-'));
    for (const name of ['base.ts', 'my-filter.ts']) writeFileSync(join(directory, name), 'export default {};\n');
    writeFileSync(join(directory, 'blocked.txt'), '203.0.113.0/24\n');
    writeFileSync(join(directory, 'routes.txt'), '192.0.2.0/24 10.9.9.9\n');
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  /** BASE with the key at `path` set to `text`, or as it is. */
  function withKey(path: string, text: string | null): Config {
    const document = parseDocument(BASE);
    for (const [needs, values] of COMPANIONS) {
      if (!needs.test(path)) continue;
      for (const [key, value] of Object.entries(values)) document.setIn(stepsOf(key), document.createNode(value));
    }
    if (text !== null) {
      const steps = stepsOf(path);
      // The second entry of the filters is the module, the third is "rules".
      if (/^filters\[\]\.(module|name|options)/.test(path)) steps[1] = 1;
      if (path === 'filters[].rules') steps[1] = 2;
      document.setIn(steps, document.createNode(parseDocument(text).toJS()));
    }
    // Warnings have line numbers in them, and draining the only backend deserves one.
    return { ...parseConfig(document.toString(), join(directory, 'sluice.yaml')), warnings: [] };
  }

  it('has a row for every key, and no row for a key that is not there', () => {
    expect(rows.map((row) => row.path).sort()).toEqual(
      schemaKeys()
        .map((key) => key.path)
        .sort(),
    );
    expect(rows.length).toBeGreaterThan(50);
  });

  it('says which keys are required', () => {
    const required = schemaKeys()
      .filter((key) => key.required)
      .map((key) => key.path);
    expect(
      rows
        .filter((row) => row.default === 'required')
        .map((row) => row.path)
        .sort(),
    ).toEqual(required.sort());
  });

  it('names a default for every key that has one', () => {
    for (const key of schemaKeys()) {
      // [] is "none" in words.
      if (key.default === null || key.default === '[]') continue;
      expect(code(rows.find((row) => row.path === key.path)!.default), key.path).not.toBeNull();
    }
  });

  it.each(rows.filter((row) => code(row.default) !== null).map((row) => [row.path, code(row.default)!]))(
    '%s: the default is %s',
    (path, text) => {
      if (path === 'filters') {
        expect(parseConfig(`interfaces: [a]\nfilters: ${text}`).filters).toEqual(
          parseConfig('interfaces: [a]').filters,
        );
      } else expect(withKey(path, text)).toEqual(withKey(path, null));
    },
  );

  it.each(rows.map((row) => [row.path, code(row.example)]))('%s: %s is an example that works', (path, text) => {
    expect(text).not.toBeNull();
    expect(withKey(path, text)).toBeTruthy();
  });

  it('shows examples that are not the default', () => {
    for (const row of rows) {
      const [text, usual] = [code(row.example), code(row.default)];
      if (usual !== null) expect(withKey(row.path, text), row.path).not.toEqual(withKey(row.path, usual));
    }
  });

  it('prints examples/sluice.yaml as it is', () => {
    const example = readFileSync(join(root, 'examples/sluice.yaml'), 'utf8');
    expect(page.slice(page.lastIndexOf('```yaml\n') + 8, page.lastIndexOf('```'))).toBe(example);
  });
});

describe('the examples', () => {
  it('are configurations without a warning', () => {
    const minimal = loadConfig(join(root, 'examples/minimal.yaml'));
    expect(minimal.warnings).toEqual([]);
    expect(minimal.services[0].backends).toHaveLength(2);
    const full = loadConfig(join(root, 'examples/sluice.yaml'));
    expect(full.warnings).toEqual([]);
    expect(full.services).toHaveLength(7);
    expect(full.services[1].backends).toEqual(full.services[0].backends);
  });

  it('show every section', () => {
    const sections = schemaKeys()
      .map((key) => key.path)
      .filter((path) => /^\w+$/.test(path));
    const document = parseDocument(readFileSync(join(root, 'examples/sluice.yaml'), 'utf8'));
    expect(sections.filter((section) => !document.has(section))).toEqual([]);
  });
});
