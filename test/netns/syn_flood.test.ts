/** SYN challenges between a real client and a real server, during floods and without. */
import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import type { Namespace } from '../../src/playground/netns.js';
import { floodScript, GuardNet, SERVER4, SERVER6 } from '../support/guard_net.js';
import { TCP } from '../support/packet_builder.js';

const PORT = 80;
const BACKLOG = 64;

/** Half-open connections at the server. */
function halfOpen(lab: GuardNet): number {
  const text = lab.right.exec('ss', '-Htan', 'state', 'syn-recv').trim();
  return text === '' ? 0 : text.split('\n').length;
}

/** A server with a small backlog. */
async function smallServer(lab: GuardNet): Promise<void> {
  lab.right.sysctl({
    'net/ipv4/tcp_max_syn_backlog': BACKLOG,
    'net/core/somaxconn': BACKLOG,
    'net/ipv4/tcp_syncookies': 1,
  });
  await lab.echo(PORT, BACKLOG);
}

/** Clients that connect one after another, send, and keep the connections. Says how long each took, ms. */
const clients = (connections: number): string => `
  const ms = [];
  const sockets = [];
  for (let i = 0; i < ${connections}; i++) {
    for (const host of ['${SERVER4}', '${SERVER6}']) {
      const { socket, ms: took } = await connect(host, ${PORT});
      ms.push(took);
      sockets.push(socket);
      const echoed = new Promise((resolve) => socket.once('data', resolve));
      socket.write('hello');
      await echoed;
    }
  }
  say(ms);
  await told();
`;

/** What ss says of the options of each open connection. */
function optionsOf(host: Namespace): string[] {
  const rows = host.exec('ss', '-Htinoe', 'state', 'established').trim().split('\n');
  return rows
    .filter((row) => row.includes('rto:'))
    .map((row) => [...row.matchAll(/\b(?:ts|sack|wscale:\d+,\d+)/g)].join(' '));
}

/** A client sends its SYN again for each challenge, and for none that was lost. */
function expectNoneLost(lab: GuardNet, client: Namespace, challenges: number): void {
  expect(lab.counter(client, 'TcpExt', 'TCPSynRetrans')).toBe(challenges);
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1];
}

describe('a SYN flood', () => {
  it('from spoofed sources leaves no state behind the challenge, and clients connect with all their options', async () => {
    const lab = new GuardNet();
    await smallServer(lab);
    await lab.start({ challenge: { mode: 'always' } });
    const floods = ([4, 6] as const).map((family) =>
      lab.run(lab.left, floodScript({ flags: TCP.SYN, port: PORT, perSecond: 3000, family, spoofed: true })),
    );
    for (const flood of floods) await flood.next();
    const client = lab.run(lab.left, clients(10));
    const ms = await client.next<number[]>();
    expect(halfOpen(lab)).toBe(0);
    for (const host of [lab.left, lab.right]) {
      const options = optionsOf(host);
      expect(options).toHaveLength(20);
      for (const text of options) expect(text).toMatch(/^ts sack wscale:\d+,\d+$/);
    }
    // So that the flood is at least ten backlogs, however quick the clients were.
    await new Promise((resolve) => setTimeout(resolve, 500));
    for (const flood of floods) flood.tell('stop');
    const sent = (await floods[0].next<number>()) + (await floods[1].next<number>());
    expect(halfOpen(lab)).toBe(0);
    const report = await lab.report();
    expect(sent).toBeGreaterThan(10 * BACKLOG);
    expect(report.challenges).toBeGreaterThan(10 * BACKLOG);
    expect(report.passed).toBe(2);
    expect(report.admitted).toBe(20);
    expect(report.longer).toBe(0);
    expect(lab.counter(lab.right, 'TcpExt', 'SyncookiesSent')).toBe(0);
    expect(lab.counter(lab.right, 'TcpExt', 'TCPReqQFullDrop')).toBe(0);
    expect(lab.counter(lab.right, 'Tcp', 'PassiveOpens')).toBe(20);
    expectNoneLost(lab, lab.left, report.passed);
    console.log(`connected in ${ms.map((each) => each.toFixed(0)).join(', ')} ms`);
  });

  it('without the challenge fills the same server’s backlog', async () => {
    const lab = new GuardNet();
    await smallServer(lab);
    await lab.start({ challenge: { mode: 'off' } });
    const flood = lab.run(
      lab.left,
      floodScript({ flags: TCP.SYN, port: PORT, perSecond: 3000, family: 4, spoofed: true }),
    );
    await flood.next();
    await expect.poll(() => halfOpen(lab)).toBeGreaterThanOrEqual(BACKLOG - 8);
    await expect.poll(() => lab.counter(lab.right, 'TcpExt', 'SyncookiesSent')).toBeGreaterThan(0);
    flood.tell('stop');
    await flood.next();
  });

  it('starts the challenge by itself, and stops it', async () => {
    const lab = new GuardNet();
    await smallServer(lab);
    await lab.start({ challenge: { mode: 'auto', startRate: 500, stopRate: 100, holdMs: 300 } });
    const once = async (): Promise<number> => {
      const program = lab.run(lab.left, `const { ms } = await connect('${SERVER4}', ${PORT}); say(ms);`);
      return program.next<number>();
    };
    await once();
    const flood = lab.run(
      lab.left,
      floodScript({ flags: TCP.SYN, port: PORT, perSecond: 3000, family: 4, spoofed: true }),
    );
    await flood.next();
    await new Promise((resolve) => setTimeout(resolve, 400));
    await once();
    flood.tell('stop');
    const sent = await flood.next<number>();
    await new Promise((resolve) => setTimeout(resolve, 600));
    await once();
    const report = await lab.report();
    // One challenge was for the client, who connected three times.
    expect(report.passed).toBe(1);
    expect(report.admitted).toBe(1);
    // What passed before the flood was noticed: a tenth of a second's worth, and at most a burst of the sender.
    expect(sent - (report.challenges - 1)).toBeLessThan(50 + 256);
  });
});

describe('a challenge', () => {
  it('costs a client some milliseconds, for each connection in scope connection', async () => {
    const lab = new GuardNet();
    await lab.echo(PORT, BACKLOG);
    await lab.start({ challenge: { mode: 'always', scope: 'connection' } });
    const client = lab.run(lab.left, clients(10));
    const ms = await client.next<number[]>();
    const report = await lab.report();
    expect(report).toMatchObject({ challenges: 20, passed: 20, admitted: 20, longer: 0 });
    // Not the second after which a client sends its SYN again by itself.
    expect(median(ms)).toBeLessThan(500);
  });

  it('passes a client’s NAT and its firewall against packets of no connection', async () => {
    const lab = new GuardNet();
    const home = lab.net.playground.namespace('home');
    lab.net.playground.veth({ namespace: home, name: 'eth0' }, { namespace: lab.left, name: 'lan0' });
    home.ip('link set eth0 up', 'address add 192.168.7.2/24 dev eth0', 'route add default via 192.168.7.1');
    lab.left.ip('link set lan0 up', 'address add 192.168.7.1/24 dev lan0');
    lab.left.sysctl({ 'net/ipv4/ip_forward': 1 });
    const rules = `table ip home {
      chain nat { type nat hook postrouting priority 100; oifname "eth0" masquerade; }
      chain transit { type filter hook forward priority 0; ct state invalid drop; iifname "eth0" ct state new drop; }
      chain local { type filter hook input priority 0; iifname "eth0" ct state != established drop; }
    }`;
    execFileSync('ip', lab.left.commandLine('nft', ['-f', '-']), { input: rules });
    await lab.echo(PORT, BACKLOG);
    await lab.start({ challenge: { mode: 'always', scope: 'connection' } });
    const client = lab.run(
      home,
      `const ms = [];
      for (let i = 0; i < 5; i++) { const made = await connect('${SERVER4}', ${PORT}); ms.push(made.ms); }
      say(ms);`,
    );
    const ms = await client.next<number[]>();
    expect(ms).toHaveLength(5);
    expectNoneLost(lab, home, 5);
    expect(await lab.report()).toMatchObject({ challenges: 5, passed: 5, admitted: 5 });
  });

  it('lets a client with TCP Fast Open and ECN connect, which sends its data again', async () => {
    const lab = new GuardNet();
    lab.left.sysctl({ 'net/ipv4/tcp_fastopen': 0x5 });
    lab.left.sysctl({ 'net/ipv4/tcp_ecn': 1 });
    await lab.echo(PORT, BACKLOG);
    await lab.start({ challenge: { mode: 'always', scope: 'connection' } });
    const python = `import socket
for family, host in ((socket.AF_INET, '${SERVER4}'), (socket.AF_INET6, '${SERVER6}')):
    s = socket.socket(family, socket.SOCK_STREAM)
    s.settimeout(5)
    s.sendto(b'early', socket.MSG_FASTOPEN, (host, ${PORT}))
    print(s.recv(5).decode())`;
    const text = lab.left.exec('python3', '-c', python);
    expect(text.trim().split('\n')).toEqual(['early', 'early']);
    expect(await lab.report()).toMatchObject({ challenges: 2, passed: 2, admitted: 2 });
  });
});
