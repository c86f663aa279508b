import { native, type LinkInfo } from '../native.js';
import { SluiceError } from '../errors.js';
import { usage, type LoadLimits } from './load.js';

const ETHERNET_BYTES = 14;

/** The interface of a load, when it can take the load's frames. @throws SluiceError SLUICE_DEVICE (down), SLUICE_USAGE (MTU), KernelError (none of that name) */
export function checkInterface(load: LoadLimits): LinkInfo {
  const info = native().linkInfo(load.interface);
  if (!info.up) {
    const remedy = `Run: ip link set ${load.interface} up`;
    throw new SluiceError('SLUICE_DEVICE', `${load.interface} is down`, remedy);
  }
  const largest = Math.max(...load.sizes.map(({ bytes }) => bytes));
  if (largest > info.mtu + ETHERNET_BYTES) {
    throw usage(
      `frames of ${largest} bytes do not fit the MTU of ${load.interface}, ${info.mtu}`,
      `Send ${info.mtu + ETHERNET_BYTES} bytes at most (--size), or run: ip link set ${load.interface} mtu ${largest - ETHERNET_BYTES}`,
    );
  }
  return info;
}
