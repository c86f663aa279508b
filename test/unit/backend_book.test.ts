import { beforeEach, describe, expect, it } from 'vitest';
import { BackendBook, DRAIN_TIMEOUT } from '../../src/control/backend_book.js';
import { planService, type BackendOverride } from '../../src/control/service_plan.js';
import type { ServiceConfig } from '../../src/shared/config.js';
import { makeService } from '../support/configs.js';

const A = 'web/10.0.0.1';
const B = 'web/10.0.0.2';

describe('book of backend states', () => {
  let nowMs: number;
  let book: BackendBook;
  const overrides = new Map<string, BackendOverride>();
  const down = new Map<string, string>();

  beforeEach(() => {
    nowMs = 1_000_000;
    book = new BackendBook(() => nowMs);
    overrides.clear();
    down.clear();
  });

  function update(service: ServiceConfig = makeService()): void {
    book.update([planService(service, overrides, down)], overrides, down);
  }

  function later(ms: number, service?: ServiceConfig): void {
    nowMs += ms;
    update(service);
  }

  it('has the time of the first build for what the config says', () => {
    update();
    later(5000);
    expect(book.get(A)).toEqual({ state: 'active', reason: 'config', sinceMs: 1_000_000 });
    expect(book.get('web/10.9.9.9')).toBeUndefined();
  });

  it('has an operator’s reason, and the time of the change', () => {
    update();
    overrides.set(A, { state: 'draining', reason: 'kernel update' });
    later(1000);
    overrides.set(B, { weight: 3 });
    later(1000);
    expect(book.get(A)).toEqual({ state: 'draining', reason: 'kernel update', sinceMs: 1_001_000 });
    expect(book.get(B)).toEqual({ state: 'active', reason: 'config', sinceMs: 1_000_000 });
    overrides.set(A, { state: 'active' });
    later(1000);
    expect(book.get(A)).toEqual({ state: 'active', reason: 'operator', sinceMs: 1_003_000 });
  });

  it('has the time of the state, whatever is said of it later, so that asking again does not drain for longer', () => {
    const service = makeService({ more: { drain: { timeout: 30, udp: 'keep' } } });
    update(service);
    overrides.set(A, { state: 'draining', reason: 'kernel update' });
    later(1000, service);
    overrides.set(A, { state: 'draining', reason: 'kernel update of the whole rack' });
    later(5000, service);
    expect(book.get(A)).toMatchObject({ reason: 'kernel update of the whole rack', sinceMs: 1_001_000 });
    expect(book.nextDeadlineMs).toBe(1_001_000 + 30_000);
    // What drains because it is down has not been asked to: that time does not count.
    down.set(B, 'timeout');
    later(5000, service);
    overrides.set(B, { state: 'draining' });
    later(5000, service);
    expect(book.get(B)).toEqual({ state: 'draining', reason: 'operator', sinceMs: 1_016_000 });
  });

  it('says what health checks found, and keeps the time while their words change', () => {
    update();
    down.set(A, 'timeout');
    later(1000);
    down.set(A, 'connection refused');
    later(1000);
    expect(book.get(A)).toEqual({ state: 'draining', reason: 'health: connection refused', sinceMs: 1_001_000 });
    down.clear();
    later(1000);
    expect(book.get(A)).toEqual({ state: 'active', reason: 'config', sinceMs: 1_003_000 });
  });

  it('keeps the operator’s word where health checks agree with it', () => {
    overrides.set(A, { state: 'draining', reason: 'disk' });
    down.set(A, 'timeout');
    update();
    expect(book.get(A)?.reason).toBe('disk');
  });

  it('knows when the time to drain is over', () => {
    const service = makeService({ more: { drain: { timeout: 30, udp: 'keep' } } });
    update(service);
    expect(book.nextDeadlineMs).toBe(Infinity);
    overrides.set(A, { state: 'draining' });
    later(1000, service);
    overrides.set(B, { state: 'draining' });
    later(1000, service);
    expect(book.nextDeadlineMs).toBe(1_001_000 + 30_000);
    expect(book.overdue()).toEqual([]);
    nowMs = 1_031_500;
    expect(book.overdue()).toEqual([{ id: A, service: 'web', address: '10.0.0.1' }]);
    overrides.set(A, { state: 'inactive', reason: DRAIN_TIMEOUT });
    update(service);
    expect(book.get(A)).toEqual({ state: 'inactive', reason: DRAIN_TIMEOUT, sinceMs: 1_031_500 });
    expect(book.nextDeadlineMs).toBe(1_002_000 + 30_000);
  });

  it('counts from the config’s own draining too, and never for what is only down', () => {
    const service = makeService({
      backends: ['10.0.0.1 draining', '10.0.0.2'],
      more: { drain: { timeout: 10, udp: 'keep' } },
    });
    down.set(B, 'timeout');
    update(service);
    nowMs += 10_000;
    expect(book.overdue().map(({ id }) => id)).toEqual([A]);
  });

  it('drains for ever without a limit', () => {
    overrides.set(A, { state: 'draining' });
    update();
    nowMs += 1e9;
    expect(book.overdue()).toEqual([]);
  });
});
