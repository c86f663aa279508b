import { parseConfig } from '../../src/control/config/index.js';
import { convert, type Conversion, type ConvertSource } from '../../src/control/convert/index.js';
import type { Config, ServiceConfig } from '../../src/shared/config.js';

export interface Converted extends Conversion {
  config: Config;
  /** "12 lost: what". */
  said: string[];
  service(name: string): ServiceConfig;
}

/** Converts texts as files f, f2, … and reads the result as the daemon would. */
export function converted(from: ConvertSource | null, ...texts: string[]): Converted {
  const inputs = texts.map((text, i) => ({ name: i === 0 ? 'f' : `f${i + 1}`, text }));
  const result = convert(inputs, { from, interface: 'eth7' });
  const config = parseConfig(result.yaml);
  return {
    ...result,
    config,
    said: result.notes.map(({ line, kind, message }) => `${line} ${kind}: ${message}`),
    service: (name) => {
      const found = config.services.find((service) => service.name === name);
      if (!found) throw new Error(`there is no service ${name}: ${config.services.map((s) => s.name).join(', ')}`);
      return found;
    },
  };
}

/** "10.0.0.11*2 draining" for each backend. */
export function backendTexts(service: ServiceConfig): string[] {
  return service.backends.map(
    ({ address, weight, state }) => `${address.text}*${weight}${state === 'active' ? '' : ` ${state}`}`,
  );
}
