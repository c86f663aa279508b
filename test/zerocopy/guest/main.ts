/** The program that the guest runs. Argument: a part of the names of the tests to run. */
import { pause } from '../../native/rig.js';
import { killDaemons } from './daemon_rig.js';
import { runTests } from './harness.js';
import { nameInterfaces, release } from './pairs.js';
import './sockets.js';
import './faults.js';
import './daemon.js';

nameInterfaces();
await runTests(process.argv[2] ?? '', release);
killDaemons();
// The kernel takes closed sockets off their devices a moment later. A shutdown in between met a null pointer in igb (7.2.12,
// igb_txrx_ring_disable).
pause(1000);
// Whatever a test has left open does not keep the machine up.
process.exit(0);
