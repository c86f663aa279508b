/** The contract that memory and pcap ports keep (test/unit), kept by AF_XDP ports on veth. */
import { afterAll, beforeAll } from 'vitest';
import { native, type XskSocket } from '../../src/native.js';
import { XskPort } from '../../src/dataplane/ports/xsk.js';
import { portContract } from '../support/port_contract.js';
import { enterNamespace, Injector, openSocket, Redirect, veth } from './rig.js';

let injector: Injector;
const redirects = new Map<string, Redirect>();

beforeAll(() => {
  enterNamespace();
  veth('va', 'vap');
  veth('vb', 'vbp');
  injector = new Injector();
  for (const name of ['va', 'vb', 'vap', 'vbp']) redirects.set(name, new Redirect(name));
});

afterAll(() => {
  for (const redirect of redirects.values()) redirect.close();
  injector.close();
});

portContract('AF_XDP on veth', (frames, burst) => {
  const addon = native();
  const near = new addon.Umem({ frameCount: 1024, chunkSize: 2048 });
  const far = new addon.Umem({ frameCount: 1024, chunkSize: 2048 });
  const rings = { rxSize: 256, txSize: 256, fillSize: 256, completionSize: 256 };
  const ports = ['va', 'vb'].map((name, index) => {
    const port = new XskPort(near, { interface: name, queue: 0, mode: 'copy', index, burst, ...rings });
    redirects.get(name)!.set(0, port.socket);
    port.exchange();
    return port;
  });
  const received: Uint8Array[][] = [[], []];
  const ends = ['vap', 'vbp'].map((name, index): XskSocket => {
    const socket = openSocket(far, { interface: name, index });
    redirects.get(name)!.set(0, socket);
    socket.exchange();
    return socket;
  });
  frames.forEach((arriving, index) => arriving.forEach((frame) => injector.send(['vap', 'vbp'][index], frame)));
  return {
    ports,
    sent(port) {
      const end = ends[port];
      for (let count = end.exchange(); count > 0; count = end.exchange()) {
        for (let slot = 0; slot < count; slot++) {
          received[port].push(new Uint8Array(far.buffer, end.offset[slot], end.length[slot]).slice());
        }
      }
      return received[port];
    },
    close() {
      for (const port of ports) port.close();
      for (const end of ends) end.close();
      near.close();
      far.close();
    },
  };
});
