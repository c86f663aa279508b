import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../src/control/config/index.js';

const SERVICE = 'services: [{name: web, vip: 198.51.100.10, port: 80, backends: [10.0.0.1]}]\n';

function warnings(text: string): string[] {
  return parseConfig(text, 'f').warnings.map((w) => `${w.line}:${w.column} ${w.path}: ${w.message}`);
}

describe('a configuration that works but is probably not meant', () => {
  it('is not one that is in order', () => {
    expect(warnings(`interfaces: [eth0]\n${SERVICE}`)).toEqual([]);
    expect(warnings('interfaces: [{name: eth0, redirect: all}]')).toEqual([]);
    expect(warnings(`interfaces: [eth0]\n${SERVICE}metrics: {listen: localhost:1}`)).toEqual([]);
    expect(warnings(`interfaces: [eth0]\n${SERVICE}metrics: {listen: "[::1]:1"}`)).toEqual([]);
  });

  it.each([
    ['interfaces: [eth0]\n', '1:14 interfaces[0]: gets no packets'],
    [
      'interfaces: [{name: eth0, redirect: all, host_path: false}]\n',
      '1:53 interfaces[0].host_path: nothing that comes in here reaches the host',
    ],
    [
      `interfaces: [a, b, c]\n${SERVICE}`,
      '1:1 : 8192 frames cannot fill the rings of 3 interfaces, which share them: that takes 12288',
    ],
    [
      `interfaces: [a]\n${SERVICE}metrics: {listen: 0.0.0.0:9477}`,
      '3:19 metrics.listen: anyone who reaches 0.0.0.0 can read the metrics',
    ],
    [
      `interfaces: [a]\n${SERVICE}metrics: {listen: "[fd00::1]:9477"}`,
      '3:19 metrics.listen: anyone who reaches fd00::1 can read the metrics',
    ],
    [
      `interfaces: [a]\n${SERVICE}filters: [sanity]\nrules: [{name: r, match: {}, action: drop}]`,
      '4:8 rules: are never applied',
    ],
    [
      'interfaces: [a]\nservices: [{name: w, vip: 198.51.100.0/24, port: 80, backends: [198.51.100.7]}]',
      "lies in the service's own VIP 198.51.100.0/24",
    ],
    [
      'interfaces: [a]\nservices: [{name: w, vip: 198.51.100.1, port: 80}]',
      '2:12 services[0]: has no backend that takes new flows',
    ],
    [
      'interfaces: [a]\nservices: [{name: w, vip: 198.51.100.1, port: 80, backends: [{address: 10.0.0.1, weight: 0}, {address: 10.0.0.2, state: draining}]}]',
      '2:12 services[0]: has no backend that takes new flows',
    ],
    [
      'interfaces: [a]\nservices: [{name: w, vip: 198.51.100.1, port: 80, ring_size: 251, backends: [10.0.0.1, 10.0.0.2, 10.0.0.3]}]',
      'services[0].ring_size: 251 slots for 3 backends spread flows unevenly',
    ],
  ])('%j', (text, expected) => {
    const found = warnings(text);
    expect(found).toHaveLength(1);
    expect(found[0]).toContain(expected);
  });
});
