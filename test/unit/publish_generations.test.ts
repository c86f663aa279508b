import { beforeEach, describe, expect, it } from 'vitest';
import { backendKey } from '../../src/control/registry.js';
import type { NextHop } from '../../src/control/routes.js';
import { ServiceTable } from '../../src/dataplane/balance/service_table.js';
import { parseAddress } from '../../src/shared/addr.js';
import { BackendField, ServiceField, ServiceFlag, type Tables } from '../../src/shared/layout.js';
import { makeConfig, makeNextHop, makeService } from '../support/configs.js';
import {
  TCP,
  clock,
  publisher,
  renewPublisher,
  stateOf,
  build,
  flagsOf,
  serviceOf,
  spreadOf,
  codeOf,
} from '../support/publishing.js';

beforeEach(renewPublisher);

describe('publisher', () => {
  describe('from one generation to the next', () => {
    const parts = ['serviceKeys', 'services', 'backendList', 'backends', 'rules'] as const;
    const changed = (before: Tables, after: Tables): string[] => [
      ...parts.filter((part) => before[part] !== after[part]),
      ...(before.rings.length === after.rings.length && before.rings.every((ring, i) => ring === after.rings[i])
        ? []
        : ['rings']),
    ];

    it('keeps every part that did not change as the same object', () => {
      const before = build([{}, { name: 'b', vip: '192.0.2.2' }]);
      expect(changed(before, build([{}, { name: 'b', vip: '192.0.2.2' }]))).toEqual([]);
    });

    it('changes nothing when backends are listed in another order', () => {
      const before = build([{ backends: ['10.0.0.1', '10.0.0.2*2', '10.0.0.3'] }]);
      expect(changed(before, build([{ backends: ['10.0.0.3', '10.0.0.1', '10.0.0.2*2'] }]))).toEqual([]);
    });

    it('changes only the backend records with a next hop', () => {
      const before = build([{}]);
      const config = makeConfig({ services: [makeService()] });
      const state = stateOf(config);
      (state.nextHops as Map<string, NextHop>).set('10.0.0.2', makeNextHop('10.0.0.2', { mtu: 9000 }));
      expect(changed(before, publisher.build(config, state))).toEqual(['backends']);
    });

    it('changes rings and backend records with a weight', () => {
      const before = build([{}]);
      const overrides = new Map([[backendKey('web', '10.0.0.1'), { weight: 2 }]]);
      expect(changed(before, build([{}], { overrides }))).toEqual(['rings']);
    });

    it('never writes to tables that it handed out', () => {
      const before = build([{}, { name: 'b', vip: '192.0.2.2' }]);
      const copies = parts.map((part) => Buffer.from(Buffer.from(before[part])));
      build([{ backends: ['10.0.0.9'], ports: ['1-9'] }]);
      build([]);
      parts.forEach((part, i) => expect(Buffer.compare(Buffer.from(before[part]), copies[i]), part).toBe(0));
    });

    it('shares one ring among services with equal backends, weights and size', () => {
      const backends = ['10.0.0.1', '10.0.0.2*2'];
      const tables = build([
        { name: 'a', vip: '192.0.2.1', backends },
        { name: 'b', vip: '192.0.2.2', backends: [...backends].reverse() },
        { name: 'other weights', vip: '192.0.2.3', backends: ['10.0.0.1*2', '10.0.0.2'] },
        { name: 'other size', vip: '192.0.2.4', backends, ringSize: 257 },
      ]);
      const ring = (name: string) => serviceOf(tables, name)[ServiceField.ring];
      expect(ring('a')).toBe(ring('b'));
      expect(new Set(['a', 'other weights', 'other size'].map(ring)).size).toBe(3);
      expect(tables.rings).toHaveLength(3);
      expect(spreadOf(tables, 'b')).toEqual(spreadOf(tables, 'a'));
    });

    it('clears the record of a backend that is gone and gives its number a higher incarnation later', () => {
      build([{ backends: ['10.0.0.1', '10.0.0.2', '10.0.0.3'] }]);
      const { number } = publisher.numbers.backends.get(backendKey('web', '10.0.0.2'))!;
      const at = number * BackendField.STRIDE;
      const without = build([{ backends: ['10.0.0.1', '10.0.0.3'] }]);
      const record = new Int32Array(without.backends).slice(at, at + BackendField.STRIDE);
      expect([...record]).toEqual(new Array(BackendField.STRIDE).fill(0));
      const soon = build([{ backends: ['10.0.0.1', '10.0.0.3', '10.0.0.4'] }]);
      expect(flagsOf(soon, 'web', '10.0.0.4')).not.toBe(0);
      expect(publisher.numbers.backends.get(backendKey('web', '10.0.0.4'))!.number).not.toBe(number);
      clock.ms += 1000;
      const late = build([{ backends: ['10.0.0.1', '10.0.0.3', '10.0.0.4', '10.0.0.5'] }]);
      expect(publisher.numbers.backends.get(backendKey('web', '10.0.0.5'))).toEqual({ number, incarnation: 2 });
      expect(new Int32Array(late.backends)[at + BackendField.incarnation]).toBe(2);
    });

    it('clears the record of a service that is gone', () => {
      build([{ name: 'a' }, { name: 'b', vip: '192.0.2.2' }]);
      const tables = build([{ name: 'b', vip: '192.0.2.2' }]);
      expect(new Int32Array(tables.services).slice(0, ServiceField.STRIDE)).toEqual(
        new Int32Array(ServiceField.STRIDE),
      );
      expect(serviceOf(tables, 'b')[ServiceField.flags] & ServiceFlag.valid).toBe(ServiceFlag.valid);
      expect(new ServiceTable(tables).find4(parseAddress('192.0.2.1').words[0], TCP, 80)).toBe(-1);
    });

    it('leaves everything as it was when a build fails', () => {
      const before = build([{}]);
      const numbers = publisher.numbers;
      const clash = [
        { name: 'new', ports: ['80'] },
        { name: 'newer', ports: ['80'] },
      ];
      expect(codeOf(() => build(clash))).toMatch(/^SLUICE_CONFIG: services new and newer both claim port 80/);
      expect(publisher.tables).toBe(before);
      expect(publisher.numbers).toBe(numbers);
      const after = build([{}]);
      expect(after.generation).toBe(2);
      expect(changed(before, after)).toEqual([]);
    });
  });
});
