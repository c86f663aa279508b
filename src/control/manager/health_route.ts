/** The way that health checks through the tunnel take: that of the backend's packets. */
import { addressFromWords, type Words } from '../../shared/addr.js';
import type { BackendConfig, Config, ServiceConfig } from '../../shared/config.js';
import type { TunnelRoute } from '../health/tunnel/wrap.js';
import { outerSource, type OuterSource } from '../outer_source.js';
import { backendKey } from '../registry.js';
import type { NextHop } from '../routes.js';

export class HealthRoutes {
  private config: Config | null = null;
  private backends: ReadonlyMap<string, { service: ServiceConfig; backend: BackendConfig }> = new Map();

  /** Routes to the backends of this configuration from now on. */
  configure(config: Config): void {
    if (config === this.config) return;
    this.config = config;
    this.backends = new Map(
      config.services.flatMap((service) =>
        service.backends.map(
          (backend) => [backendKey(service.name, backend.address.text), { service, backend }] as const,
        ),
      ),
    );
  }

  /** Of the backend `key`; null while its next hop is not resolved. */
  find(key: string, nextHops: ReadonlyMap<string, NextHop>): TunnelRoute | null {
    const found = this.backends.get(key);
    if (found === undefined) return null;
    const { service, backend } = found;
    const hop = nextHops.get(backend.address.text);
    if (!hop?.resolved || !hop.smac || !hop.dmac) return null;
    const katran = service.hash === 'katran' || service.hash === 'katran-v2';
    const source = outerSource(service.encapsulation, katran, backend.address, hop);
    if (source === null) return null;
    return {
      interface: hop.interface,
      smac: hop.smac,
      dmac: hop.dmac,
      sourceAddress: addressFromWords(backend.address.family, oneOf(source, backend.address.family)),
      destination: backend.address,
      encapsulation: service.encapsulation,
    };
  }
}

/** An address of the prefix that outer sources come from: its first host. */
function oneOf({ words, entropy }: OuterSource, family: 4 | 6): Words {
  const last = family === 4 ? 0 : 3;
  const [a, b, c, d] = words.map((word, i) => (i === last ? word | (entropy[i] & 1) : word));
  return [a, b, c, d];
}
