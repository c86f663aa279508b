/** packet/encap.ts: outer IP and Ethernet header into the headroom. */
import { Egress } from '../../src/dataplane/balance/egress.js';
import { encapsulate } from '../../src/dataplane/packet/encap.js';
import { IpProtocol } from '../../src/dataplane/packet/wire.js';
import { BackendField } from '../../src/shared/layout.js';
import { BURST, measure, type MicroCase } from './harness.js';
import { checksum, HEADROOM, parsedBurst, type FrameOptions } from './packets.js';
import { snapshotOf } from './tables.js';

/**
 * The inner packet stays as it is, so the same burst can be wrapped again and again; the outer header then lies where it lay. The
 * sum is of the lengths that leave.
 */
function encapCase(name: string, backend: string, options: FrameOptions, outerBytes: number): MicroCase {
  const vip = options.family === 4 ? '198.51.100.10' : "'2001:db8::10'";
  const snapshot = snapshotOf(
    `services: [{ name: bench, vip: ${vip}, port: 443, protocol: [tcp, udp], backends: ['${backend}'] }]`,
  );
  const { egress, backends, backendList } = snapshot;
  const at = backendList[0] << Egress.SHIFT;
  const record = backendList[0] * BackendField.STRIDE;
  const packets = parsedBurst(options);
  const body = (): number => {
    let sum = 0;
    for (let i = 0; i < BURST; i++) {
      const packet = packets[i];
      const reason = encapsulate(packet, egress, at, backends, record);
      sum = (sum + packet.dataEnd - packet.data + (reason << 20)) | 0;
    }
    return sum;
  };
  body();
  for (const packet of packets) {
    const header = new Uint8Array(packet.view.buffer, packet.data + 14, outerBytes);
    const version = outerBytes === 20 ? 0x45 : 0x60;
    if (header[0] !== version || (outerBytes === 20 && checksum(header) !== 0)) {
      throw new Error(`${name}: the outer header is wrong: ${Buffer.from(header).toString('hex')}`);
    }
  }
  return { name, body, expected: (options.bytes + outerBytes) * BURST };
}

const udp4: FrameOptions = { family: 4, protocol: IpProtocol.udp, bytes: 64 };
const tcp6: FrameOptions = { family: 6, protocol: IpProtocol.tcp, bytes: 78 };
measure([
  encapCase('IPv4 in IPv4', '10.0.0.10', udp4, 20),
  // Two bytes on, the words of the outer header are not aligned: the same work by stores through the DataView.
  encapCase('IPv4 in IPv4, not aligned', '10.0.0.10', { ...udp4, headroom: HEADROOM + 2 }, 20),
  encapCase('IPv6 in IPv4', '10.0.0.10', tcp6, 20),
  encapCase('IPv6 in IPv6', 'fd00::10', tcp6, 40),
]);
