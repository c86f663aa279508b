/** Files of source routes that a configuration names, each read once. */
import { SluiceError } from '../../errors.js';
import type { SourceRoute } from '../../shared/config.js';
import { readSourceRoutes } from '../source_routes.js';

export class RouteFiles {
  readonly #files = new Map<string, SourceRoute[] | SluiceError>();

  /** The routes of a file, by its absolute path; or what is wrong with it. */
  read(path: string): SourceRoute[] | SluiceError {
    let routes = this.#files.get(path);
    if (routes === undefined) {
      try {
        routes = readSourceRoutes(path);
      } catch (error) {
        if (!(error instanceof SluiceError)) throw error;
        routes = error;
      }
      this.#files.set(path, routes);
    }
    return routes;
  }
}
