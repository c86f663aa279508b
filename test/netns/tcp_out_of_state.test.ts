/** Out-of-state TCP between a real client and a real server: nothing of theirs is dropped, floods are, by reason. */
import { describe, expect, it } from 'vitest';
import { CLIENT4, floodScript, GuardNet, SERVER4, SERVER6 } from '../support/guard_net.js';
import { TCP } from '../support/packet_builder.js';

const PORT = 80;
const STRICT = { mode: 'mitigate', adopt: 'never' } as const;
const NOTHING_DROPPED = { unexpected: 0, notFound: 0, outOfSequence: 0, alreadyClosed: 0 };

describe('connections of real hosts', () => {
  it('lose no packet: transfers, thousands of short ones, half-closed and reset ones', async () => {
    const lab = new GuardNet();
    await lab.echo(PORT, 1024);
    // Few ports, so that they are used again while the server is still in TIME-WAIT or the tracker remembers.
    lab.left.exec('sysctl', '-qw', 'net.ipv4.ip_local_port_range=20000 20999', 'net.ipv4.tcp_tw_reuse=1');
    await lab.start({ outOfState: STRICT });
    const client = lab.run(
      lab.left,
      `
      const block = Buffer.alloc(1 << 16, 'x');
      /** Sends so much, closes its half, and counts what comes back. */
      const transfer = async (host, blocks) => {
        const { socket } = await connect(host, ${PORT});
        let bytes = 0;
        socket.on('data', (data) => (bytes += data.length));
        for (let i = 0; i < blocks; i++) if (!socket.write(block)) await new Promise((resolve) => socket.once('drain', resolve));
        socket.end();
        await ended(socket);
        return bytes;
      };
      const bytes = await Promise.all(['${SERVER4}', '${SERVER6}'].map((host) => transfer(host, 256)));
      /** When all ports are in TIME-WAIT: they can be used again after a second. */
      const connectSoon = async (host) => {
        for (;;) {
          try {
            return await connect(host, ${PORT});
          } catch (error) {
            if (error.code !== 'EADDRNOTAVAIL') throw error;
            await later(50);
          }
        }
      };
      const short = async (host, reset) => {
        const { socket } = await connectSoon(host);
        socket.write('hello');
        await new Promise((resolve) => socket.once('data', resolve));
        if (reset) socket.resetAndDestroy();
        else socket.end();
        await ended(socket);
      };
      let connections = 0;
      const lane = async (host) => { for (let i = 0; i < 150; i++) { await short(host, i % 3 === 0); connections++; } };
      await Promise.all(Array.from({ length: 16 }, (_, i) => lane(i % 2 === 0 ? '${SERVER4}' : '${SERVER6}')));
      say({ bytes, connections });`,
    );
    expect(await client.next()).toEqual({ bytes: [256 << 16, 256 << 16], connections: 2400 });
    const report = await lab.report();
    expect(report).toMatchObject(NOTHING_DROPPED);
    expect(report.totals).toMatchObject({ txLost: 0, missed: 0 });
  });

  it('lose no packet on a path that loses packets before and behind, with a challenge each', async () => {
    const lab = new GuardNet();
    await lab.echo(PORT, 1024);
    await lab.start({ challenge: { mode: 'always', scope: 'connection' }, outOfState: STRICT, lossPercent: 2 });
    const client = lab.run(
      lab.left,
      `
      const exchange = async (host, bytes, reset) => {
        const { socket } = await connect(host, ${PORT});
        let left = bytes;
        const echoed = new Promise((resolve) => socket.on('data', (data) => { left -= data.length; if (left === 0) resolve(); }));
        socket.write(Buffer.alloc(bytes, 'y'));
        await echoed;
        if (reset) socket.resetAndDestroy();
        else socket.end();
        await ended(socket);
      };
      const lane = async (host, n) => { for (let i = 0; i < 5; i++) await exchange(host, 1 + n * 20000, i % 2 === 0); };
      await Promise.all(Array.from({ length: 24 }, (_, n) => lane(n % 2 === 0 ? '${SERVER4}' : '${SERVER6}', n)));
      say('done');`,
    );
    expect(await client.next()).toBe('done');
    const report = await lab.report();
    expect(report).toMatchObject(NOTHING_DROPPED);
    expect(report.lostBefore).toBeGreaterThan(10);
    expect(report.lostBehind).toBeGreaterThan(10);
  });

  it('that are older than the guard go on when it learns, also when they begin to send only then', async () => {
    const lab = new GuardNet();
    await lab.echo(PORT, 64);
    await lab.start({ outOfState: { mode: 'off' } });
    const client = lab.run(
      lab.left,
      `const { socket } = await connect('${SERVER4}', ${PORT});
      say('open');
      await told();
      const echoed = new Promise((resolve) => socket.once('data', resolve));
      socket.write('after');
      say(String(await echoed));`,
    );
    await client.next();
    await lab.report();
    await lab.start({ outOfState: { mode: 'mitigate', adopt: 'learning' } });
    client.tell('go');
    expect(await client.next()).toBe('after');
    expect(await lab.report()).toMatchObject(NOTHING_DROPPED);
  });
});

describe('a flood', () => {
  it.each([
    ['ACK', TCP.ACK, 'notFound'],
    ['RST', TCP.RST, 'notFound'],
    ['FIN', TCP.FIN | TCP.ACK, 'notFound'],
    ['SYN-ACK', TCP.SYN | TCP.ACK, 'unexpected'],
    ['flagless', 0, 'unexpected'],
  ] as const)('of %s is dropped whole, and a client beside it loses nothing', async (_name, flags, reason) => {
    const lab = new GuardNet();
    await lab.echo(PORT, 64);
    await lab.start({ outOfState: STRICT });
    const flood = lab.run(lab.left, floodScript({ flags, port: PORT, perSecond: 4000, family: 4, spoofed: true }));
    await flood.next();
    const client = lab.run(
      lab.left,
      `for (let i = 0; i < 50; i++) {
        const { socket } = await connect('${SERVER4}', ${PORT});
        socket.end('hello');
        socket.resume();
        await ended(socket);
      }
      say('done');`,
    );
    await client.next();
    flood.tell('stop');
    const sent = await flood.next<number>();
    await new Promise((resolve) => setTimeout(resolve, 100));
    const report = await lab.report();
    expect(sent).toBeGreaterThan(300);
    expect(report).toMatchObject({ ...NOTHING_DROPPED, [reason]: sent });
  });

  it('of ACK from the client’s own address does not harm its open connections', async () => {
    const lab = new GuardNet();
    await lab.echo(PORT, 64);
    await lab.start({ outOfState: STRICT });
    const client = lab.run(
      lab.left,
      `const sockets = [];
      for (let i = 0; i < 200; i++) sockets.push((await connect('${SERVER4}', ${PORT})).socket);
      say('open');
      await told();
      const echoed = sockets.map((socket) => new Promise((resolve) => socket.once('data', resolve)));
      for (const socket of sockets) socket.write('still there');
      await Promise.all(echoed);
      say(echoed.length);`,
    );
    await client.next();
    const flood = lab.run(
      lab.left,
      floodScript({ flags: TCP.ACK, port: PORT, perSecond: 4000, family: 4, spoofed: false }),
    );
    await flood.next();
    await new Promise((resolve) => setTimeout(resolve, 1000));
    flood.tell('stop');
    await flood.next();
    client.tell('go');
    expect(await client.next(), CLIENT4).toBe(200);
    expect((await lab.report()).notFound).toBeGreaterThan(1000);
  });
});
