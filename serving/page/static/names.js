// Names of columns: which one is meant for which feature. batch.py has the same rule.

const UNIT = /[(\[]([^)\]]*)[)\]]\s*$/; // at the end of a name, in brackets

/** Return the letters and digits of a name, without their case: ß is ss. */
function letters(name) {
  return name.toUpperCase().toLowerCase().replace(/[^\p{L}\p{N}]/gu, "");
}

/** Return whether two names differ in case, punctuation or a unit that one of them lacks. */
function isSimilar(feature, name) {
  if (letters(feature) === letters(name)) {
    return letters(name) !== "";
  }
  if (UNIT.test(feature) && UNIT.test(name)) {
    return false; // another unit is another quantity
  }
  const stem = letters(feature.replace(UNIT, ""));
  return stem !== "" && stem === letters(name.replace(UNIT, ""));
}

/**
 * Return the name of the column of each feature that has one. A similar name is matched if no other
 * column and no other feature could be meant.
 */
export function matchFeatures(features, names) {
  const matches = new Map();
  for (const feature of features.filter((feature) => names.includes(feature))) {
    matches.set(feature, feature);
  }

  const exact = [...matches.values()];
  const others = names.filter((name) => !exact.includes(name));
  const candidates = [];
  for (const feature of features.filter((feature) => !matches.has(feature))) {
    candidates.push([feature, others.filter((name) => isSimilar(feature, name))]);
  }
  const used = candidates.flatMap(([, similar]) => similar);
  for (const [feature, similar] of candidates) {
    if (similar.length === 1 && used.filter((name) => name === similar[0]).length === 1) {
      matches.set(feature, similar[0]);
    }
  }
  return matches;
}
