import { describe, expect, it } from 'vitest';
import { SluiceError } from '../../src/errors.js';
import { backendTexts, converted } from '../support/convert.js';

/** As ipvsadm -S -n prints a table. */
const SAVED = `\
-A -t 198.51.100.10:80 -s mh -b mh-fallback,mh-port
-a -t 198.51.100.10:80 -r 10.0.0.11:80 -i -w 100
-a -t 198.51.100.10:80 -r 10.0.0.12:80 -i -w 250
-a -t 198.51.100.10:80 -r 10.0.0.13:80 -i -w 0
-A -t [2001:db8::10]:443 -s wlc
-a -t [2001:db8::10]:443 -r [2001:db8:1::11]:443 -g -w 1
-A -u 198.51.100.53:53 -s rr -o
-a -u 198.51.100.53:53 -r 10.0.0.21:53 -i -w 1 --tun-type gue --tun-port 5555 --tun-csum
`;

const one = (service: string, ...servers: string[]): string =>
  [`-A -t 198.51.100.10:80 ${service}`, ...servers.map((server) => `-a -t 198.51.100.10:80 ${server}`)].join('\n');

const NAME = 'tcp-198.51.100.10-80';

describe('a table of IPVS', () => {
  const table = converted('ipvs', SAVED);

  it('becomes services of the same address, port and protocol', () => {
    expect(
      table.config.services.map(({ name, vip, ports, protocols }) => [
        name,
        vip.text,
        vip.length,
        ports[0].first,
        protocols[0],
      ]),
    ).toEqual([
      ['tcp-198.51.100.10-80', '198.51.100.10', 32, 80, 6],
      ['tcp-2001:db8::10-443', '2001:db8::10', 128, 443, 6],
      ['udp-198.51.100.53-53', '198.51.100.53', 32, 53, 17],
    ]);
    expect(table.config.interfaces[0].name).toBe('eth7');
  });

  it('keeps weights, and quiescent servers as draining', () => {
    expect(backendTexts(table.service(NAME))).toEqual(['10.0.0.11*100', '10.0.0.12*250', '10.0.0.13*1 draining']);
  });

  it('keeps the ways to the servers: tunnels, GUE, direct routing', () => {
    expect(table.service(NAME).encapsulation.kind).toBe('ipip');
    expect(table.service('tcp-2001:db8::10-443').encapsulation.kind).toBe('l2');
    expect(table.service('udp-198.51.100.53-53').encapsulation).toMatchObject({
      kind: 'gue',
      gue: { port: 5555, variant: 0, checksum: 'computed' },
    });
    expect(table.service('udp-198.51.100.53-53').flowTable).toBe(false);
  });

  it('loses nothing here, and says how each scheduler differs', () => {
    expect(table.notes.filter(({ kind }) => kind === 'lost')).toEqual([]);
    expect(table.notes.map(({ line, message }) => `${line} ${message.split(' ')[0]}`)).toEqual([
      '1 mh',
      '5 wlc',
      '7 rr',
      '7 packets',
    ]);
  });
});

describe('a scheduler', () => {
  it.each([
    ['-s mh', ['src']],
    ['-s mh -b flag-2', ['src', 'sport']],
    ['-s sh', ['src']],
    ['--scheduler=sh --sched-flags sh-port,sh-fallback', ['src', 'sport']],
    ['-s dh', ['dst']],
    ['-s wrr', ['src', 'sport', 'dst', 'dport', 'protocol']],
    ['', ['src', 'sport', 'dst', 'dport', 'protocol']],
    ['-s wlc -p', ['src']],
    ['-s sh -b sh-port -p 600', ['src']],
  ])('%s hashes %j', (scheduler, fields) => {
    expect(converted('ipvs', one(scheduler, '-r 10.0.0.11:80 -i')).service(NAME).hashFields).toEqual(fields);
  });

  it('rr leaves weights out, fo all servers but the first choice', () => {
    const servers = ['-r 10.0.0.11:80 -i -w 3', '-r 10.0.0.12:80 -i -w 9', '-r 10.0.0.13:80 -i -w 0'];
    expect(backendTexts(converted('ipvs', one('-s rr', ...servers)).service(NAME))).toEqual([
      '10.0.0.11*1',
      '10.0.0.12*1',
      '10.0.0.13*1 draining',
    ]);
    const failover = converted('ipvs', one('-s fo', ...servers));
    expect(backendTexts(failover.service(NAME))).toEqual([
      '10.0.0.11*1 inactive',
      '10.0.0.12*1',
      '10.0.0.13*1 draining',
    ]);
    expect(failover.said[0]).toMatch(/^1 lost: fail-over \(fo\): 10\.0\.0\.12 has the highest weight/);
  });

  it('that is not known is lost', () => {
    expect(converted('ipvs', one('-s ovf', '-r 10.0.0.11:80 -i')).said).toContain('1 lost: the scheduler ovf');
  });
});

describe('what sluice does not do is named, with its line', () => {
  it.each([
    ['-s sh -b sh-fallback', '-r 10.0.0.11:80 -m', /^2 lost: masquerading \(-m\)/],
    ['-s sh -b sh-fallback', '-r 10.0.0.11:8080 -i', /^2 lost: packets reach 10\.0\.0\.11 with port 80, not 8080/],
    ['-s sh -b sh-fallback', '-r 10.0.0.11:80 -i --tun-type gre', /^2 lost: GRE tunnels/],
    ['-s sh -b sh-fallback', '-r 10.0.0.11:80 -i -x 100 -y 80', /^2 lost: limits of connections/],
    ['-s sh -b sh-fallback', '-r 198.51.100.10:80 -g', /^2 lost: the real server 198\.51\.100\.10 is the VIP itself/],
    ['-s sh -b sh-fallback', '-r 10.0.0.11:80 -i -z 4', /^2 lost: the option -z is not known/],
    [
      '-s wlc -p 300 -M 255.255.255.0',
      '-r 10.0.0.11:80 -i',
      /^1 lost: persistence of whole networks \(-M 255\.255\.255\.0\)/,
    ],
    ['-s wlc -p 300 --pe sip', '-r 10.0.0.11:80 -i', /^1 lost: the persistence engine sip/],
  ])('%s, %s', (service, server, expected) => {
    const { said } = converted('ipvs', one(service, server));
    const lost = said.filter((text) => text.includes(' lost: '));
    expect(lost).toHaveLength(1);
    expect(lost[0]).toMatch(expected);
  });

  it('masquerading becomes a tunnel, a firewall mark nothing', () => {
    const { service, said, config, notes } = converted(
      'ipvs',
      `${one('-s sh -b sh-fallback', '-r 10.0.0.11:80 -m')}\n-A -f 7 -s wlc\n-a -f 7 -r 10.0.0.12:0 -g\n-a -f 7 -r 10.0.0.13:0 -g\n`,
    );
    expect(service(NAME).encapsulation.kind).toBe('ipip');
    expect(config.services).toHaveLength(1);
    expect(notes.find(({ line }) => line === 2)!.remedy).toContain('sluice backend-agent');
    expect(said).toContain('3 lost: firewall mark 7 with its 2 real servers: packets have no mark when they reach XDP');
  });

  it('names are not resolved', () => {
    const { said } = converted('ipvs', `${one('', '-r 10.0.0.11:80 -i')}\n-A -t www.example.com:http -s wlc\n`);
    expect(said).toContain('3 lost: "www.example.com" is a name, not an address');
  });

  it('servers of one service that are reached in different ways get the commonest', () => {
    const servers = ['-r 10.0.0.11:80 -g', '-r 10.0.0.12:80 -i', '-r 10.0.0.13:80 -i'];
    const { service, said } = converted('ipvs', one('', ...servers));
    expect(service(NAME).encapsulation.kind).toBe('ipip');
    expect(said.find((text) => text.startsWith('2 changed'))).toContain('by ipip, not l2');
  });

  it('one address with two ports is one backend', () => {
    const { service, said } = converted('ipvs', one('', '-r 10.0.0.11:80 -m', '-r 10.0.0.11:81 -m'));
    expect(backendTexts(service(NAME))).toEqual(['10.0.0.11*1']);
    expect(
      said.some((text) => text.startsWith('3 lost: 10.0.0.11 is a real server already, with another port (line 2)')),
    ).toBe(true);
  });
});

describe('commands are applied in order', () => {
  it('with edits, deletions, clearing and timeouts', () => {
    const { service, config, said } = converted(
      'ipvs',
      `ipvsadm -A -t 198.51.100.1:1 -s rr
/sbin/ipvsadm -C
ipvsadm --add-service --tcp-service 198.51.100.10:80 --scheduler wrr # web
ipvsadm --add-server -t 198.51.100.10:80 --real-server 10.0.0.11 --ipip --weight=7; ipvsadm -a -t 198.51.100.10:80 -r 10.0.0.12:80 -i
ipvsadm -e -t 198.51.100.10:80 -r 10.0.0.11:80 -i -w9
ipvsadm -d -t 198.51.100.10:80 -r 10.0.0.12:80
ipvsadm --set 3600 0 60
ipvsadm -A -t 198.51.100.11:0 -p 60 -s sh -b sh-fallback
ipvsadm -a -t 198.51.100.11:0 -r 10.0.0.11 -i
ipvsadm -Ln
`,
    );
    expect(backendTexts(service(NAME))).toEqual(['10.0.0.11*9']);
    expect(config.services).toHaveLength(2);
    expect(service('tcp-198.51.100.11-any').ports).toEqual([]);
    expect(config.flows.timeouts).toMatchObject({ tcpEstablished: 3600, tcpClosing: 10, udp: 60 });
    expect(said.filter((text) => text.includes('lost'))).toEqual([]);
  });

  it('and what cannot be applied is named', () => {
    const { said } = converted(
      'ipvs',
      `${one('-s sh -b sh-fallback', '-r 10.0.0.11:80 -i')}
-A -t 198.51.100.10:80 -s rr
-a -t 198.51.100.11:80 -r 10.0.0.11:80
-a -t 198.51.100.10:80 -r 10.0.0.11:80 -i
-E -t 198.51.100.12:80 -s rr
-a -t 198.51.100.10:99999 -r 10.0.0.11
-t 198.51.100.10:80
-A -t $VIP:80
iptables -t nat -F
`,
    );
    expect(said.filter((text) => text.includes('lost'))).toEqual([
      '3 lost: the service is there already, from line 1',
      '4 lost: belongs to a service that is not there',
      '5 lost: the real server is there already, from line 2',
      '6 lost: edits a service that is not there',
      '7 lost: "99999" is not a port (0-65535)',
      '8 lost: names no command',
      '9 lost: has variables in it',
      '10 lost: "iptables -t nat -F" is not a line of ipvsadm -S',
    ]);
  });

  it('weights beyond 65535 keep their proportions', () => {
    const exact = one('-s wrr', '-r 10.0.0.11:80 -i -w 300000', '-r 10.0.0.12:80 -i -w 100000');
    expect(backendTexts(converted('ipvs', exact).service(NAME))).toEqual(['10.0.0.11*3', '10.0.0.12*1']);
    const rounded = converted('ipvs', one('-s wrr', '-r 10.0.0.11:80 -i -w 2000000011', '-r 10.0.0.12:80 -i -w 1'));
    expect(backendTexts(rounded.service(NAME))).toEqual(['10.0.0.11*65535', '10.0.0.12*1']);
    expect(rounded.said).toContain('1 changed: weights are rounded to proportions of at most 65535');
  });
});

it('without a service there is an error that says why', () => {
  const failing = (): unknown => converted('ipvs', '-A -t nonsense\n');
  expect(failing).toThrow(SluiceError);
  expect(failing).toThrow(/no service in it .*\nf:1: lost: "nonsense" is a name/);
});
