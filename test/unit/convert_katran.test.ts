import { describe, expect, it } from 'vitest';
import { backendTexts, converted } from '../support/convert.js';

const SCRIPT = `#!/bin/sh
# edge VIPs
KC=./katran_goclient
./katran_goclient -change_mac 02:00:00:00:00:01
./katran_goclient -A -t 198.51.100.10:443
./katran_goclient -a -t 198.51.100.10:443 -r 10.0.0.11 -w 10
./katran_goclient -a -t 198.51.100.10:443 -r 10.0.0.12 -w 20 && \\
  ./katran_goclient -a -t 198.51.100.10:443 -r fd00::13 -w 0
./katran_goclient -A -u 198.51.100.10:443 -vf QUIC_VIP
./katran_goclient -a -u 198.51.100.10:443 -r 10.0.0.11
./katran_goclient -quic_mapping 10.0.0.11=1022
./katran_goclient -quic_mapping=10.0.0.11=1023
./katran_goclient -A -t '[2001:db8::10]:0'
./katran_goclient -a -t '[2001:db8::10]:0' -r fd00::14
./katran_goclient -E -t '[2001:db8::10]:0' -vf NO_LRU
./katran_goclient -l
./katran_goclient -s -sum
`;

const vip = (flags: string, kind = '-u'): string =>
  `katran_goclient -A ${kind} 198.51.100.10:53${flags === '' ? '' : ` -vf ${flags}`}\nkatranc -a ${kind} 198.51.100.10:53 -r 10.0.0.11\n`;

const UDP = 'udp-198.51.100.10-53';

describe('a script of Katran’s client', () => {
  it('may call it by a variable or a path with one, and start Katran too', () => {
    const { services, said } = converted(
      'katran',
      [
        'KC=./katran_goclient',
        './katran_server_grpc -balancer_prog ./balancer.bpf.o -intf=eth0 -lru_size=10000 &',
        '$KC -A -t 198.51.100.10:80',
        '"${KC}" -a -t 198.51.100.10:80 -r 10.0.0.11',
        'sudo $GOPATH/bin/katran_goclient -a -t 198.51.100.10:80 -r 10.0.0.12',
        '$KC -a -t 198.51.100.10:80 -r $REAL',
      ].join('\n'),
    );
    expect([services, said]).toEqual([
      1,
      [
        expect.stringMatching(/^2 lost: "\.\/katran_server_grpc .* starts Katran itself: its flags are not read$/),
        '6 lost: has variables in it',
      ],
    ]);
  });

  const script = converted('katran', SCRIPT);

  it('becomes services with Katran’s hash', () => {
    expect(script.config.services.map(({ name, hash }) => [name, hash])).toEqual([
      ['tcp-198.51.100.10-443', 'katran'],
      ['udp-198.51.100.10-443', 'katran'],
      ['tcp-2001:db8::10-any', 'katran'],
    ]);
    expect(backendTexts(script.service('tcp-198.51.100.10-443'))).toEqual([
      '10.0.0.11*10',
      '10.0.0.12*20',
      'fd00::13*0',
    ]);
  });

  it('with the server ids of QUIC', () => {
    const service = script.service('udp-198.51.100.10-443');
    expect(service.quic).toEqual({ scheme: 'katran' });
    expect(service.backends[0].serverIds).toHaveLength(2);
    expect(script.yaml).toContain('server_ids: [1022, 1023]');
    expect(script.service('tcp-198.51.100.10-443').backends[0].serverIds).toEqual([]);
  });

  it('with flags that were set later', () => {
    expect(script.service('tcp-2001:db8::10-any')).toMatchObject({ ports: [], flowTable: false });
  });

  it('and names what is not the client’s, and what is not needed', () => {
    expect(script.said).toEqual([
      '4 changed: the hardware address of the router is found by route and neighbour table, not given',
    ]);
  });
});

describe('a flag of a VIP', () => {
  it.each([
    ['', ['src', 'sport', 'dport']],
    ['NO_SPORT', ['src', 'dport']],
    ['DPORT_HASH', ['dport']],
    ['HASH_SRC_DST_PORT', ['src', 'sport', 'dport']],
  ])('%s hashes %j', (flags, fields) => {
    expect(converted('katran', vip(flags)).service(UDP).hashFields).toEqual(fields);
  });

  it.each([
    ['198.51.100.10:0', '', ['src', 'sport']],
    ['198.51.100.10:0', '-vf NO_SPORT', ['src']],
    ['198.51.100.10:0', '-vf HASH_SRC_DST_PORT', ['src', 'sport', 'dport']],
    ['198.51.100.0/24:80', '', ['src', 'sport']],
    ['[2001:db8::/64]:0', '', ['src', 'sport']],
    ['[2001:db8::1]:80', '', ['src', 'sport', 'dport']],
  ])('of any port or of a prefix leaves the destination port out: %s %s', (place, flags, fields) => {
    const text = `-A -t ${place} ${flags}\n-a -t ${place} -r 10.0.0.11\n`;
    expect(converted('katran', text).config.services[0].hashFields).toEqual(fields);
  });

  it('has its counterpart', () => {
    expect(converted('katran', vip('NO_LRU')).service(UDP).flowTable).toBe(false);
    expect(converted('katran', vip('UDP_STABLE_ROUTING')).service(UDP).stableUdp).toBe(true);
    expect(converted('katran', vip('UDP_FLOW_MIGRATION')).service(UDP).drain.udp).toBe('move');
    const both = converted('katran', vip('"QUIC_VIP,NO_LRU"')).service(UDP);
    expect(both).toMatchObject({ quic: { scheme: 'katran' }, flowTable: false });
  });

  it('of UDP means nothing to TCP', () => {
    const { said, config } = converted('katran', vip('QUIC_VIP', '-t'));
    expect(config.services[0].quic).toBeNull();
    expect(said).toEqual(['1 changed: the flag for UDP (quic) is left out: the VIP is TCP']);
  });

  it.each([
    ['SRC_ROUTING', '1 lost: SRC_ROUTING: the routes are not in what the client shows'],
    ['LOCAL_VIP', '1 lost: LOCAL_VIP: delivery on the load balancer itself'],
    ['GLOBAL_LRU', '1 changed: GLOBAL_LRU: a worker knows the flows of its queue only; RSS keeps a flow on one queue'],
  ])('%s is named', (flag, expected) => {
    expect(converted('katran', vip(flag)).said).toEqual([expected]);
  });

  it('can be taken back', () => {
    const text = `${vip('NO_LRU')}katranc -E -u 198.51.100.10:53 -vf NO_LRU -unset\n`;
    expect(converted('katran', text).service(UDP).flowTable).toBe(true);
  });
});

describe('what the client prints', () => {
  const LISTED = `2026/01/05 12:54:05 vips len 2
VIP:        198.51.100.10 Port:    443 Protocol: udp
Vip's flags:  NO_SPORT  QUIC_VIP 
 ->10.0.0.11         weight: 3 flags: 
 ->10.0.0.12         weight: 1 flags:  LOCAL_REAL 
VIP:         2001:db8::10 Port:     80 Protocol: tcp
Vip's flags: 
 ->fd00::11          weight: 1 flags: 
exiting
printing address to quic's connection id mapping
real:            10.0.0.12 = connection id:      7
real:            10.0.0.99 = connection id:      8
exiting
somark:       1000 addr:  10.0.0.11
`;
  const listed = converted(null, LISTED);

  it('is known as Katran’s, and becomes the same services', () => {
    expect(listed.from).toBe('katran');
    expect(backendTexts(listed.service('udp-198.51.100.10-443'))).toEqual(['10.0.0.11*3', '10.0.0.12*1']);
    expect(listed.service('udp-198.51.100.10-443').hashFields).toEqual(['src', 'dport']);
    expect(listed.service('udp-198.51.100.10-443').backends[1].serverIds).toHaveLength(1);
    expect(listed.service('tcp-2001:db8::10-80').backends[0].address.text).toBe('fd00::11');
  });

  it('with a note on each line that says what sluice has not', () => {
    expect(listed.said).toEqual([
      '5 lost: LOCAL_REAL: delivery on the load balancer itself',
      '12 lost: server id 8: 10.0.0.99 is a real of no VIP with QUIC or stable routing',
      '14 lost: a destination for health checks: sluice makes the checks itself',
    ]);
  });

  it('and older versions of it', () => {
    const old = "VIP: 10.200.200.1 Port: 22 Protocol: tcp\nVip's flags:\n-> 10.0.0.2 weight 1\nexiting\n";
    expect(backendTexts(converted('katran', old).config.services[0])).toEqual(['10.0.0.2*1']);
  });
});

it('what cannot be applied is named', () => {
  const { said } = converted(
    'katran',
    `${vip('')}katranc -A -t 198.51.100.10
katranc -A -u 198.51.100.10:53
katranc -a -t 198.51.100.99:80 -r 10.0.0.11
katranc -a -u 198.51.100.10:53 -r 224.0.0.1
katranc -a -u 198.51.100.10:53 -r 198.51.100.10
katranc -A -u 198.51.100.11:53 -vf FAST
katranc -quic_mapping 10.0.0.11
katranc -quic_mapping 10.0.0.11=0
katranc -A -t "$VIP:80"
katranc -A -t 198.51.100.12:80 -turbo 9
`,
  );
  expect(said).toEqual(
    [
      '3 lost: "198.51.100.10" has no port',
      '4 lost: the VIP is there already, from line 1',
      '5 lost: belongs to a VIP that is not there',
      '6 lost: "224.0.0.1" is not an address that a host can have',
      '7 lost: the real 198.51.100.10 is the VIP itself',
      '8 lost: "FAST" is not a flag of a VIP',
      '9 lost: "10.0.0.11" is not address=id',
      '10 lost: server id 0 means none, in Katran too',
      '11 lost: has variables in it',
      '12 lost: the flag -turbo is not known',
      '0 changed: services[1]: has no backend that takes new flows: its packets are dropped (no_backend)',
    ].sort((a, b) => parseInt(a) - parseInt(b)),
  );
});
