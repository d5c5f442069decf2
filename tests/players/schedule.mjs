// Parses schedules such as `--throttle 0:0,8:300,20:0`, `--level 2:144,15:auto` and `--back 6:4`, in
// seconds after start-up.

// The entries of a schedule in order of time; empty without a text, null if the text is malformed.
export function parseSchedule(text, valueOf) {
  if (text === undefined) return [];
  const entries = text.split(',').map((entry) => {
    const [at, value] = entry.split(':');
    return { at_s: Number(at || NaN), value: valueOf(value ?? '') };
  });
  const valid = ({ at_s, value }, index) =>
    at_s >= 0 && value !== undefined && (index === 0 || at_s >= entries[index - 1].at_s);
  return entries.every(valid) ? entries : null;
}

// Kilobits a second for all data from the media's origin; 0 is no limit.
export const rateOf = (text) => (/^\d+$/.test(text) ? Number(text) : undefined);

// The height of a rendition; null leaves the choice to the player.
export const heightOf = (text) => (text === 'auto' ? null : /^\d+$/.test(text) ? Number(text) : undefined);

// Seconds to seek back.
export const secondsOf = (text) => (/^\d+$/.test(text) ? Number(text) : undefined);
