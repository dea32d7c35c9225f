// Colours of relations and of heat maps.

// Okabe and Ito's palette, which colour-blind readers tell apart; the lightness differs too.
const PALETTE = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a7f00", "#7a4fb5"];

/** The colour of each relation, in order of name, so that it is the same in graph and list. */
export function relationColors(relations) {
  const names = [...new Set(relations.filter(Boolean))].sort();
  return Object.fromEntries(names.map((name, index) => [name, PALETTE[index % PALETTE.length]]));
}

// Samples of viridis, which is perceptually even.
const RAMP = [[68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142], [31, 158, 137], [53, 183, 121], [109, 205, 89], [180, 222, 44], [253, 231, 37]];

/** The colour of a share from 0 to 1, and the colour of text upon it. */
export function heat(share) {
  const at = Math.max(0, Math.min(1, share)) * (RAMP.length - 1);
  const [low, high] = [RAMP[Math.floor(at)], RAMP[Math.ceil(at)]];
  const mixed = low.map((value, index) => Math.round(value + (high[index] - value) * (at % 1)));
  return { ground: `rgb(${mixed.join(" ")})`, ink: share > 0.55 ? "#111" : "#fff" };
}
