/** Device features as `ethtool -k` prints them. */
export interface Feature {
  on: boolean;
  /** The device does not let it be changed. */
  fixed: boolean;
}

/** By the name that ethtool prints, for example "tx-checksumming". */
export type Features = ReadonlyMap<string, Feature>;

/** Reads the output of `ethtool -k`; sub-features are indented and named uniquely, so one flat map holds all. */
export function parseFeatures(text: string): Features {
  const features = new Map<string, Feature>();
  for (const match of text.matchAll(/^\s*([\w-]+): (on|off)(?: \[(fixed|[^\]]*)\])?$/gm)) {
    features.set(match[1], { on: match[2] === 'on', fixed: match[3] === 'fixed' });
  }
  return features;
}

/** Driver from the output of `ethtool -i`; '' when it is not there. */
export function parseDriver(text: string): string {
  return /^driver: (.+)$/m.exec(text)?.[1].trim() ?? '';
}

/** Queues from the output of `ethtool -l`: what is set now, and the most that the device takes. */
export function parseChannels(text: string): { rx: number; maximum: number } | null {
  const [most, now] = text.split('Current hardware settings:');
  if (now === undefined) return null;
  const field = (part: string, name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(part)?.[1] ?? 0);
  const rx = (part: string) => Math.max(field(part, 'Combined') + field(part, 'RX'), 0);
  return rx(now) > 0 ? { rx: rx(now), maximum: rx(most) } : null;
}
