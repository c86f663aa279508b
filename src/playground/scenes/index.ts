/** The scenes of `sluice demo`, in order. */
import { churn } from './churn.js';
import { cost } from './cost.js';
import { crash } from './crash.js';
import { flood } from './flood.js';
import type { Scene } from './scene.js';
import { spread } from './spread.js';

export const SCENES: readonly Scene[] = [spread, flood, churn, crash, cost];
