import { describe, expect, it } from 'vitest';
import { problems, serviceProblems } from '../support/config_problems.js';

describe('a service', () => {
  it.each([
    ['port: 70000', 'services[0].port: 70000 is not a port (0-65535) | '],
    ['port: -1', 'services[0].port: -1 is not a port (0-65535) | '],
    ['port: 80-70000', 'services[0].port: 70000 is not a port (0-65535) | '],
    ['port: 90-80', 'services[0].port: "90-80" runs backwards | Write 80-90.'],
    [
      'port: http',
      'services[0].port: "http" is not a port (0-65535) or a range of them | Write a number, or a range as first-last.',
    ],
    ['port: [80, 80]', 'services[0].port: 80 and 80 overlap | '],
    ['port: [80, 70-90]', 'services[0].port: 70-90 and 80 overlap | '],
    ['port: []', 'services[0].port: is an empty list | Write any for all ports.'],
    ['port: [any, 80]', 'services[0].port: has any and others | Write any alone.'],
    [
      'port: {a: 1}',
      'services[0].port: is a map, not a list | Start each entry on its own line with "- ", or write [a, b].',
    ],
    ['backends: []', 'services[0].port: is missing | Write the port, or any for all ports.'],
    [
      'port: 80, protocol: gre',
      'services[0].port: the protocol gre has no ports | Write port: any, or leave the key out.',
    ],
    ['port: 80, protocol: tpc', 'services[0].protocol: "tpc" is not an IP protocol | Did you mean tcp?'],
    ['port: any, protocol: 256', expect.stringContaining('services[0].protocol: 256 is not an IP protocol')],
    ['port: any, protocol: 0', expect.stringContaining('services[0].protocol: 0 is not an IP protocol')],
    ['port: any, protocol: []', 'services[0].protocol: is an empty list | Write any for all protocols.'],
    ['port: 80, protocol: [tcp, 6]', 'services[0].protocol[1]: tcp is there twice | '],
    ['port: 80, protocol: [tcp, any]', 'services[0].protocol: has any and others | Write any alone.'],
    [
      'port: 80, ring_size: 65536',
      'services[0].ring_size: 65536 is not a prime number | The nearest primes are 65521 and 65537.',
    ],
    ['port: 80, ring_size: 241', 'services[0].ring_size: 241 is not a prime number from 251 to 655373 | '],
    ['port: 80, ring_size: 655379', 'services[0].ring_size: 655379 is not a prime number from 251 to 655373 | '],
    [
      'port: 80, backends: [{address: 10.0.0.1, weight: 65536}]',
      'services[0].backends[0].weight: 65536 is not a whole number from 0 to 65535 | ',
    ],
    [
      'port: 80, backends: [{address: 10.0.0.1, weight: -1}]',
      'services[0].backends[0].weight: -1 is not a whole number from 0 to 65535 | ',
    ],
    [
      'port: 80, backends: [{address: 10.0.0.1, weight: 0.5}]',
      'services[0].backends[0].weight: 0.5 is not a whole number from 0 to 65535 | ',
    ],
    [
      'port: 80, backends: [{weight: 1}]',
      'services[0].backends[0].address: is missing | Write for example address: 10.0.0.11',
    ],
    [
      'port: 80, backends: ["::ffff:10.0.0.1"]',
      'services[0].backends[0]: "::ffff:10.0.0.1" is an IPv4-mapped IPv6 address | Write the IPv4 address: 10.0.0.1',
    ],
    ['port: 80, backends: [0.0.0.0]', 'services[0].backends[0]: "0.0.0.0" is not an address that a host can have | '],
    [
      'port: 80, backends: [224.0.0.1]',
      'services[0].backends[0]: "224.0.0.1" is not an address that a host can have | ',
    ],
    [
      'port: 80, backends: [240.0.0.1]',
      'services[0].backends[0]: "240.0.0.1" is not an address that a host can have | ',
    ],
    ['port: 80, backends: ["ff02::1"]', 'services[0].backends[0]: "ff02::1" is not an address that a host can have | '],
    ['port: 80, backends: ["::"]', 'services[0].backends[0]: "::" is not an address that a host can have | '],
    // The square of a prime.
    [
      'port: 80, ring_size: 63001',
      'services[0].ring_size: 63001 is not a prime number | The nearest primes are 62989 and 63029.',
    ],
    [
      'port: 80, backends: [10.0.0.0/8]',
      'services[0].backends[0]: "10.0.0.0/8" is a prefix, not an address | Leave out "/" and the length.',
    ],
    [
      'port: 80, backends: [10.0.0.1, {address: 10.0.0.1, weight: 2}]',
      expect.stringContaining('services[0].backends[1].address: 10.0.0.1 is there twice'),
    ],
    [
      'port: 80, backends: ["fd00::1", "fd00:0::1"]',
      expect.stringContaining('services[0].backends[1]: fd00::1 is there twice'),
    ],
    [
      'port: 80, backends: [198.51.100.10]',
      expect.stringContaining("services[0].backends[0]: 198.51.100.10 is the service's own VIP"),
    ],
  ])('%s', (fields, expected) => {
    const found = serviceProblems(fields).map((line) => line.slice(line.indexOf(' ') + 1));
    expect(found).toEqual([expected]);
  });

  it('with host bits in its VIP is refused with the right prefix', () => {
    expect(problems('services: [{name: a, vip: 198.51.100.10/24, port: 80}]')).toEqual([
      '2:27 services[0].vip: "198.51.100.10/24" has bits set beyond its length | Write 198.51.100.0/24 for the network, or 198.51.100.10 for the one address.',
    ]);
  });

  it.each(['"a b"', '""', '"-x"', 'a/b', `"${'a'.repeat(64)}"`, '80', 'true', '[a]', '"é"', '"a\\n"'])(
    'of the name %s is refused',
    (name) => {
      expect(problems(`services: [{name: ${name}, vip: 198.51.100.10, port: 80}]`)[0]).toContain('is not a name');
    },
  );

  it('has fewer backends than ring slots', () => {
    const backends = Array.from({ length: 252 }, (_, i) => `10.0.1.${i}`).join(', ');
    expect(serviceProblems(`port: 80, ring_size: 251, backends: [${backends}]`)).toEqual([
      expect.stringContaining('services[0].ring_size: 251 slots are too few for 252 backends'),
    ]);
  });
});

describe('two services', () => {
  const two = (a: string, b: string): string[] => problems(`services:\n- {name: a, ${a}}\n- {name: b, ${b}}\n`);
  const line = (what: string): string => `4:18 services[1].vip: ${what} belongs to service a (line 3) already`;

  it.each([
    ['vip: 198.51.100.1, port: 80', 'vip: 198.51.100.1, port: 80', line('tcp port 80 of 198.51.100.1')],
    ['vip: 198.51.100.1, port: 80', 'vip: 198.51.100.1/32, port: [443, 80]', line('tcp port 80 of 198.51.100.1')],
    [
      'vip: 198.51.100.0/24, port: 100-200',
      'vip: 198.51.100.0/24, port: 150-300',
      line('tcp port 150-200 of 198.51.100.0/24'),
    ],
    ['vip: 198.51.100.1, port: 1-65535', 'vip: 198.51.100.1, port: 8080', line('tcp port 8080 of 198.51.100.1')],
    [
      'vip: 198.51.100.1, port: 53, protocol: [tcp, udp]',
      'vip: 198.51.100.1, port: 53, protocol: udp',
      line('udp port 53 of 198.51.100.1'),
    ],
    ['vip: 198.51.100.1, port: any', 'vip: 198.51.100.1, port: any', line('tcp any port of 198.51.100.1')],
    [
      'vip: 198.51.100.1, protocol: any',
      'vip: 198.51.100.1, port: any, protocol: any',
      line('any protocol any port of 198.51.100.1'),
    ],
    ['vip: 198.51.100.1, protocol: 47', 'vip: 198.51.100.1, protocol: gre', line('gre any port of 198.51.100.1')],
    ['vip: "2001:db8:0::", port: 80', 'vip: "2001:db8::", port: 80', line('tcp port 80 of 2001:db8::')],
  ])('may not both have %s', (a, b, expected) => {
    const found = two(a, b);
    expect(found).toHaveLength(1);
    expect(found[0]).toContain(expected);
  });

  it('are compared with all others, not only their neighbours', () => {
    const found = problems(
      'services:\n- {name: a, vip: 198.51.100.1, port: 1-1000}\n- {name: b, vip: 198.51.100.1, port: 2000}\n- {name: c, vip: 198.51.100.1, port: 500-600}\n- {name: d, vip: 198.51.100.1, port: 900}\n',
    );
    expect(found.map((text) => text.split(' ')[1])).toEqual(['services[2].vip:', 'services[3].vip:']);
  });
});
