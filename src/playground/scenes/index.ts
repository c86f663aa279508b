/** The scenes of `sluice demo`, in order. */
import { churn } from './churn.js';
import { cost } from './cost.js';
import { crash } from './crash.js';
import { fleet } from './fleet.js';
import { flood } from './flood.js';
import type { Scene } from './scene.js';
import { spread } from './spread.js';

export const SCENES: readonly Scene[] = [spread, fleet, flood, churn, crash, cost];
