// Prints a line for loss.sh: latency, stalls and protocols of a report of tests/players/play.mjs.
//
//   node loss_report.mjs PROTOCOL LINK REPORT

import { readFileSync } from 'node:fs';

const [protocol, link, file] = process.argv.slice(2);
const report = JSON.parse(readFileSync(file, 'utf8'));
const seconds = (value) => (!Number.isFinite(value) ? '?' : `${value.toFixed(2)} s`);
const { glass_to_glass_ms: screen, player_latency_s: player, stalls, played_s: played, startup_ms: startup, protocols, faults } = report;
console.log(
  `${protocol} over ${link}: encoder to screen p50 ${seconds(screen?.p50 / 1000)}, max ${seconds(screen?.max / 1000)}; hls.js p50 ` +
    `${seconds(player?.p50)}, max ${seconds(player?.max)}; ${stalls.count} stalls of ${Math.round(stalls.total_ms)} ms in all; ` +
    `played ${seconds(played)}, the first picture after ${startup} ms; requests by protocol ${JSON.stringify(protocols)}`,
);
if (faults.length > 0) console.log(`  faults: ${faults.join('; ')}`);
// The measured protocol must be the requested one.
const seen = new Set(Object.values(protocols ?? {}).flatMap(Object.keys));
if (seen.size !== 1 || !seen.has(protocol)) {
  console.log(`  NOT ALL over ${protocol}: ${[...seen]}`);
  process.exit(1);
}
