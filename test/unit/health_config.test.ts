/** `health:` of a service: short forms, defaults, and every way to get it wrong. Works on the schema itself, apart from the rest. */
import { describe, expect, it } from 'vitest';
import { checkHealth } from '../../src/control/config/check_health.js';
import { Findings } from '../../src/control/config/findings.js';
import type { Path } from '../../src/control/config/problem.js';
import { recover } from '../../src/control/config/recover.js';
import { healthSchema, normaliseHealth, type RawHealth } from '../../src/control/config/schema_health.js';
import { readSource } from '../../src/control/config/source.js';
import type { HealthConfig } from '../../src/shared/health_config.js';

const HTTP_PORT = { port: [{ first: 80, last: 80 }] };

/** Reads `health: TEXT` as the configuration does. */
function read(text: string, service: Parameters<typeof checkHealth>[1] = HTTP_PORT) {
  const source = readSource(`health: ${text}\n`);
  const findings = new Findings('x.yaml', source);
  const at: Path = ['health'];
  const value = (source.value as { health: unknown }).health;
  const raw = recover(healthSchema, value, at, (path, what, message, remedy) =>
    findings.error(path, message, remedy, what),
  ) as Partial<RawHealth> | undefined;
  checkHealth(raw, service, at, findings);
  findings.sort();
  return { raw, findings };
}

function config(text: string): HealthConfig {
  const { raw, findings } = read(text);
  expect(findings.errors).toEqual([]);
  return normaliseHealth(raw as RawHealth);
}

function errors(text: string, service?: Parameters<typeof checkHealth>[1]): string[] {
  return read(text, service).findings.errors.map(({ line, path, message, remedy }) =>
    [`${line} ${path}: ${message}`, remedy].filter((part) => part !== '').join(' | '),
  );
}

describe('health', () => {
  it('has short forms and documented defaults', () => {
    expect(config('tcp')).toEqual({
      check: { type: 'tcp' },
      port: null,
      intervalMs: 2000,
      timeoutMs: 1000,
      rise: 2,
      fall: 3,
      jitter: 0.1,
      through: 'direct',
      allDown: 'keep_last',
      flap: { halfLifeMs: 60_000, suppress: 4, reuse: 1, maxHoldMs: 300_000 },
    });
    expect(config('{}')).toEqual(config('tcp'));
    expect(config('http').check).toEqual({
      type: 'http',
      path: '/',
      method: 'GET',
      host: null,
      status: [{ first: 200, last: 399 }],
      body: null,
      tls: null,
    });
  });

  it.each([
    ['{path: /healthz}', { type: 'http', path: '/healthz' }],
    ['{tls: {verify: false}}', { type: 'https', tls: { verify: false, serverName: null } }],
    [
      '{type: https, host: "www.example.com:8443"}',
      { host: 'www.example.com:8443', tls: { verify: true, serverName: null } },
    ],
    [
      '{status: [200, 301-302]}',
      {
        type: 'http',
        status: [
          { first: 200, last: 200 },
          { first: 301, last: 302 },
        ],
      },
    ],
    [
      '{status: "200, 204"}',
      {
        status: [
          { first: 200, last: 200 },
          { first: 204, last: 204 },
        ],
      },
    ],
    ['{body: "all well"}', { type: 'http', body: { kind: 'text', text: 'all well' } }],
    ['{body: "/^ok$/im"}', { body: { kind: 'regex', source: '^ok$', flags: 'im' } }],
    [
      '{request: ping, expect: "hex:706f 6e:67"}',
      { type: 'udp', request: Uint8Array.from(Buffer.from('ping')), expect: Uint8Array.from(Buffer.from('pong')) },
    ],
    [
      '{name: www.example.com., record: aaaa}',
      { type: 'dns', name: 'www.example.com', record: 28, rcode: 0, answer: null },
    ],
    ['dns', { type: 'dns', name: '', record: 2 }],
    ['{name: gone.example, rcode: NXDOMAIN, record: 99}', { rcode: 3, record: 99 }],
  ])('reads %s', (text, expected) => {
    expect(config(text).check).toMatchObject(expected);
  });

  it('takes times below a second, percentages and "off"', () => {
    expect(config('{interval: 200ms, timeout: 100ms, jitter: 2.5%, flap: off}')).toMatchObject({
      intervalMs: 200,
      timeoutMs: 100,
      jitter: 0.025,
      flap: null,
    });
    expect(config('{flap: {half_life: 10s, suppress: 2.5, reuse: 0.5, max_hold: 40s}}').flap).toEqual({
      halfLifeMs: 10_000,
      suppress: 2.5,
      reuse: 0.5,
      maxHoldMs: 40_000,
    });
  });

  it.each([
    ['{type: htpp}', ['1 health.type: "htpp" is not one of tcp, http, https, udp, dns | Did you mean http?']],
    ['{typ: tcp}', ['1 health.typ: unknown key | Did you mean type?']],
    [
      '{type: tcp, path: /}',
      ['1 health.path: means nothing to a check of type tcp | It belongs to type: http or https.'],
    ],
    ['{path: /, request: x}', ['1 health.request: means nothing to a check of type http | It belongs to type: udp.']],
    ['{type: http, tls: {}}', ['1 health.tls: means nothing to a check of type http | It belongs to type: https.']],
    [
      '{path: health}',
      ['1 health.path: "health" is not a path | Write it as in a URL: /healthz, with %20 for a space.'],
    ],
    ['{path: "/a b"}', ['1 health.path: "/a b" is not a path | Write it as in a URL: /healthz, with %20 for a space.']],
    [
      '{host: "x\\r\\ny"}',
      ['1 health.host: "x\\r\\ny" is not a host | Write for example www.example.com or www.example.com:8443.'],
    ],
    [
      '{status: 99}',
      ['1 health.status: 99 is not a status or a range of them (100-599) | Write 200, 200-399 or [200, 204].'],
    ],
    ['{status: []}', ['1 health.status: is an empty list | Write for example 200-399.']],
    ['{method: HEAD, body: x}', ['1 health.body: cannot match: an answer to HEAD has no body | Write method: GET.']],
    [
      '{expect: "hex:0g"}',
      [
        '1 health.expect: "hex:0g" is not pairs of hex digits | Write text, or hex: and pairs of hex digits (hex:0a1b).',
      ],
    ],
    ['{record: AAA}', ['1 health.record: "AAA" is not a record type | Did you mean AAAA?']],
    [
      '{name: "a..b"}',
      ['1 health.name: "a..b" is not a domain name | Write for example www.example.com, or "." for the root.'],
    ],
    ['{jitter: 0.1}', ['1 health.jitter: 0.1 is not a percentage from 0% to 50% | Write for example 10%.']],
    ['{jitter: 60%}', ['1 health.jitter: "60%" is not a percentage from 0% to 50% | Write for example 10%.']],
    [
      '{interval: 50ms}',
      [
        '1 health.interval: "50ms" is not from 100ms to 24h | Write a number of seconds, or a number with ms, s, m or h: 500ms, 10s, 5m, 1h.',
      ],
    ],
    ['{rise: 0}', ['1 health.rise: 0 is not a whole number from 1 to 255']],
    [
      '{flap: {suppress: 2, reuse: 2}}',
      ['1 health.flap.reuse: is 2, not below suppress, which is 2 | Write a number below suppress.'],
    ],
    [
      '{flap: {max_hold: 90s}}',
      ['1 health.flap.max_hold: is too short for any backend to be held | Write more than 120s, or flap: off.'],
    ],
  ])('refuses %s', (text, expected) => {
    expect(errors(text)).toEqual(expected);
  });

  it('refuses a regular expression that is none', () => {
    expect(errors('{body: "/(/"}')[0]).toMatch(/^1 health\.body: "\/\(\/" is not a regular expression: Invalid/);
  });

  it('wants a name to verify a certificate for', () => {
    const expected = expect.stringMatching(
      /^1 health: https has no name to verify the certificate for \| Write host: /,
    );
    expect(errors('https')).toEqual([expected]);
    expect(errors('{type: https, host: 192.0.2.1}')).toEqual([expected]);
    expect(errors('{type: https, tls: {server_name: a.example}}')).toEqual([]);
  });

  it('wants a port where the service has none', () => {
    const any = { port: ['any' as const] };
    expect(errors('tcp', any)).toEqual([
      '1 health: the service has no port of its own to check | Write the port to check: health: {port: 80}.',
    ]);
    expect(errors('{port: 80}', any)).toEqual([]);
    expect(errors('{port: 0}', any)).toEqual(['1 health.port: 0 is not a whole number from 1 to 65535']);
  });

  it('warns of a timeout above the interval, and takes it', () => {
    const { findings } = read('{interval: 1s, timeout: 2s}');
    expect(findings.errors).toEqual([]);
    expect(findings.warnings.map(({ path }) => path)).toEqual(['health.timeout']);
  });
});
