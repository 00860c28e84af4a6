// Running means and paired differences over seeds, as pandas and vgpo.stats.seeds
// compute them; tests/explorer/test_curves_js.py compares them.

const VGPOStatistics = (() => {
  // Mean over a window centred on each value, cut at the ends; null is no value.
  // rolling(window, min_periods=1, center=True).mean() of pandas.
  function smooth(values, window) {
    const ahead = Math.floor((window - 1) / 2);
    return values.map((_, i) => {
      const last = i + ahead;
      const near = values
        .slice(Math.max(0, last - window + 1), last + 1)
        .filter((v) => v !== null);
      return near.length ? near.reduce((a, b) => a + b, 0) / near.length : null;
    });
  }

  // Mean over seeds with Student's t interval: [mean, low, high, seeds]. The ends are
  // null where nothing is known of the spread: one seed, or
  // values that are the same but for rounding.
  // quantiles[n] is that of n - 1 degrees of freedom.
  function tInterval(values, quantiles) {
    const n = values.length;
    if (!n) return [null, null, null, 0];
    const mean = values.reduce((a, b) => a + b, 0) / n;
    const range = Math.max(...values) - Math.min(...values);
    const size = Math.max(...values.map(Math.abs));
    if (n < 2 || range <= 1e-12 * size) return [mean, null, null, n];
    const squares = values.reduce((total, v) => total + (v - mean) ** 2, 0);
    const reach = (quantiles[n] * Math.sqrt(squares / (n - 1))) / Math.sqrt(n);
    return [mean, mean - reach, mean + reach, n];
  }

  // Value less baseline, pair by pair. What is equal but for rounding (12 digits of
  // the largest value) is made equal, as vgpo.stats.seeds.paired_differences does.
  function pairedDifferences(values, baseline) {
    const scale = values
      .concat(baseline)
      .reduce((most, v) => Math.max(most, Math.abs(v)), 0);
    if (scale === 0) return values.map(() => 0);
    return values.map(
      (v, i) => (Math.round(((v - baseline[i]) / scale) * 1e12) / 1e12) * scale
    );
  }

  return { smooth, tInterval, pairedDifferences };
})();
