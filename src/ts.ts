/**
 * `node --import sluice/ts program.ts`: lets Node 20 run TypeScript that uses sluice, as Node 22.18 and newer can by themselves.
 * Types are stripped, not checked. Needs the package "typescript".
 */
import { register } from 'node:module';

register('./dataplane/filter/typescript_hooks.js', import.meta.url);
