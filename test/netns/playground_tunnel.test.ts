import { expect, it } from 'vitest';
import { Backend, ECHO_PORT } from '../../src/playground/backends.js';
import type { Namespace } from '../../src/playground/netns.js';
import { ChildProgram, compiledProgram } from '../../src/playground/process.js';
import { HOST_INTERFACE, VIP4 } from '../../src/playground/topology.js';
import { PacketBuilder } from '../support/packet_builder.js';
import { testTopology } from '../support/netns.js';

const CLIENT_PORT = 5555;

/** Prints each datagram that arrives at the client, with whom it is from. */
const LISTENER = `
  const socket = require('node:dgram').createSocket('udp4');
  socket.on('message', (text, from) => console.log(JSON.stringify({ text: String(text), from: from.address + ':' + from.port })));
  socket.bind(${CLIENT_PORT}, () => console.log('{"ready":true}'));
`;

/** Lets the kernel run a second decapsulator over a frame as if it had arrived, and treat it by its verdict. */
const INJECTOR = `
  const [, destination, source, frame] = process.argv;
  const { native, bpfObjectPath } = await import(${JSON.stringify(compiledProgram('native'))});
  const { encodeIpAddr, encodeLpmKey, encodeU32 } = await import(${JSON.stringify(compiledProgram('control/bpf_layout'))});
  const { parseAddress, parsePrefix } = await import(${JSON.stringify(compiledProgram('shared/addr'))});
  const object = new (native().BpfObject)(bpfObjectPath('decap'));
  object.load();
  object.map('decap_dst').update(encodeIpAddr(parseAddress(destination)), encodeU32(0));
  object.map('decap_src').update(encodeLpmKey(parsePrefix(source)), encodeU32(0));
  const { ifindex } = native().linkInfo(${JSON.stringify(HOST_INTERFACE)});
  object.testRun('sluice_decap', { data: Buffer.from(frame, 'hex'), liveFrames: true, ifindex, repeat: 1 });
`;

function inject(namespace: Namespace, destination: string, source: string, frame: Uint8Array): Promise<ChildProgram> {
  const hex = Buffer.from(frame).toString('hex');
  const args = ['--input-type=module', '-e', INJECTOR, destination, source, hex];
  const program = new ChildProgram('ip', namespace.commandLine(process.execPath, args), { label: 'injector' });
  return program.ended.then((exit) => {
    expect([exit.code, program.errorOutput]).toEqual([0, '']);
    return program;
  });
}

it('a backend takes the outer header off and answers the client from the VIP, past the balancer', async () => {
  const topology = testTopology({ backends: 1 });
  const [host] = topology.backends;
  // The injected frame meets the decapsulator of the injector; the backend's own would have to see the wire.
  await Backend.start(topology, host, { decap: false });
  const listener = topology.playground.start(topology.client.namespace, process.execPath, ['-e', LISTENER]);
  await listener.message<{ ready?: boolean }>((message) => message.ready === true, 5000);

  const [link] = host.namespace.query<{ address: string }[]>('link', 'show', HOST_INTERFACE);
  const frame = new PacketBuilder()
    .ethernet({ dst: link.address })
    .ipip({ src: topology.lb.address4, dst: host.address4 })
    .ipv4({ src: topology.client.address4, dst: VIP4 })
    .udp({ sport: CLIENT_PORT, dport: ECHO_PORT })
    .payload('through the tunnel')
    .build();
  const answer = listener.message<{ text?: string }>((message) => message.text !== undefined, 5000);
  await inject(host.namespace, host.address4, topology.lb.address4, frame);
  expect(await answer).toEqual({ text: `${host.name} through the tunnel`, from: `${VIP4}:${ECHO_PORT}` });
});
