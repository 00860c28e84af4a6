// The method's arithmetic on one group, as vgpo.method computes it: ragged arrays in
// float64, one array of focus scores a rollout. Where the package works in float32
// whatever its input (the schedule), Math.fround does the same here, so that the two
// agree to the last bits; tests/explorer/test_method_js.py compares them.

const VGPOMethod = (() => {
  const LARGEST_DENOMINATOR = 1000000n;
  const RELEASED_EPS = 1e-8;
  const TOKEN_CLAMP = [0.1, 2.0];
  const TRAJECTORY_CLAMP = [0.9, 2.0];
  const REWARD_EPS = 1e-4; // TRL's, under the standard deviation of Eq. 2

  // The fraction a ratio is meant as, with a denominator of at most 10^6: 0.29 is
  // 29/100, not the binary number next to it. Python's Fraction.limit_denominator.
  function exactRatio(value) {
    let denominator = 1n;
    let scaled = value;
    // Doubling is exact, and every double is a whole number after enough of it.
    while (!Number.isInteger(scaled)) {
      scaled *= 2;
      denominator *= 2n;
    }
    const numerator = BigInt(scaled);
    if (denominator <= LARGEST_DENOMINATOR) {
      return [Number(numerator), Number(denominator)];
    }
    // Continued fraction, as long as the denominator stays small enough.
    let [p0, q0, p1, q1] = [0n, 1n, 1n, 0n];
    let [n, d] = [numerator, denominator];
    for (;;) {
      const a = n / d;
      const q2 = q0 + a * q1;
      if (q2 > LARGEST_DENOMINATOR) break;
      [p0, q0, p1, q1] = [p1, q1, p0 + a * p1, q2];
      [n, d] = [d, n - a * d];
    }
    // The nearer of the two candidates; of equally near ones the latter.
    const k = (LARGEST_DENOMINATOR - q0) / q1;
    return 2n * d * (q0 + k * q1) <= denominator
      ? [Number(p1), Number(q1)]
      : [Number(p0 + k * p1), Number(q0 + k * q1)];
  }

  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const clamp = (value, [low, high]) => Math.min(Math.max(value, low), high);
  const least = (values) => values.reduce((a, b) => Math.min(a, b), Infinity);
  const most = (values) => values.reduce((a, b) => Math.max(a, b), -Infinity);

  // To [0, 1]; zeros if all are equal.
  function minMax(values, eps = 0) {
    const low = least(values);
    const high = most(values);
    return values.map((v) => (high > low ? (v - low) / (high - low + eps) : 0));
  }

  // What stands for t/T in Eq. 5, t = 1..T.
  function schedule(length, kind) {
    return Array.from({ length }, (_, i) => {
      if (kind === "step") return 2 * (i + 1) >= length ? 1 : 0;
      const progress = Math.fround((i + 1) / length);
      return kind === "exponential" ? Math.fround(progress * progress) : progress;
    });
  }

  // Eq. 6: which tokens of the tail are among its top kappa. Of equal scores the
  // later token is kept; borders are counted in whole numbers.
  function gate(rho, gamma, kappa) {
    const [tailTop, tailBottom] = exactRatio(gamma);
    const [top, bottom] = exactRatio(kappa);
    const tail = rho.map(
      (_, i) => (i + 1) * tailBottom > rho.length * (tailBottom - tailTop)
    );
    const candidates = rho.map((_, i) => i).filter((i) => tail[i]);
    const kept = Math.max(1, Math.floor((candidates.length * top) / bottom));
    const winners = new Set(
      candidates.sort((a, b) => rho[b] - rho[a] || b - a).slice(0, kept)
    );
    return { tail, open: rho.map((_, i) => winners.has(i)) };
  }

  // One rollout, Eq. 5-8.
  function paperRow(rho, settings) {
    const { tail, open } = gate(rho, settings.tail_ratio, settings.top_ratio);
    const progress = schedule(rho.length, settings.schedule);
    const beta = Math.fround(settings.strength);
    const factor = progress.map((p, i) =>
      Math.fround(1 + (open[i] ? Math.fround(beta * p) : 0))
    );
    const w = rho.map((r, i) => r * factor[i]);
    const wHat = minMax(w);
    const mean = rho.length ? sum(wHat) / rho.length : 0;
    const psi = wHat.map((v) => v - mean);
    return { rho, focus: rho, tail, open, progress, w, wHat, mean, psi };
  }

  function paperFactors(rows, settings) {
    const shaped = rows.map((rho) => paperRow(rho, settings));
    // Eq. 9-11. Rows without an image, whose weights are all 0, and empty ones do not
    // count among the G.
    const counted = shaped.map((row) => row.w.some((w) => w !== 0));
    const s = shaped.map((row) => {
      const total = sum(row.w);
      const mean = settings.accumulation === "mean";
      return mean ? total / Math.max(row.w.length, 1) : total;
    });
    const scaled = minMax(s.filter((_, i) => counted[i]));
    const sMean = scaled.length ? sum(scaled) / scaled.length : 0;
    let next = 0;
    const sHat = counted.map((yes) => (yes ? scaled[next++] : 0));
    const phi = sHat.map((v, i) => (counted[i] ? v - sMean : 0));
    return { rows: shaped, s, sHat, sMean, phi, counted };
  }

  // The released code's t/T: from 0 at the first token to 1 at the last.
  function releasedSchedule(length, kind) {
    return Array.from({ length }, (_, i) => {
      const progress = i / Math.max(length - 1, 1);
      if (kind === "exponential") return Math.fround(progress ** 2);
      return kind === "step" ? (progress >= 0.5 ? 1 : 0) : Math.fround(progress);
    });
  }

  // The released code's gate: floors of float64 products, and a threshold that all
  // who tie with the last winner pass.
  function releasedGate(focus, gamma, kappa) {
    const start = Math.floor(focus.length * (1 - gamma));
    const tail = focus.map((_, i) => i + 1 > start);
    const scores = focus.filter((_, i) => tail[i]).sort((a, b) => b - a);
    const kept = Math.max(1, Math.floor(scores.length * kappa));
    const threshold = scores[kept - 1];
    return { tail, open: focus.map((f, i) => tail[i] && f >= threshold) };
  }

  function releasedFactors(rows, settings) {
    const image = rows.map((rho) => rho.some((r) => r !== 0));
    const cosine = rows.map((rho, i) => rho.map((r) => (image[i] ? 2 * r - 1 : 0)));
    // One range for the whole batch, in which padding counts as cosine 0. The batch
    // is this group, padded to its longest rollout.
    const longest = most(rows.map((rho) => rho.length));
    const padding = rows.some((rho) => rho.length < longest) ? [0] : [];
    const all = cosine.flat().concat(padding);
    const [low, high] = [least(all), most(all)];
    const shaped = cosine.map((row, i) => {
      const focus = row.map((c) => (c - low) / (high - low + RELEASED_EPS));
      const { tail, open } = releasedGate(focus, settings.tail_ratio, settings.top_ratio);
      const progress = releasedSchedule(row.length, settings.schedule);
      const beta = Math.fround(settings.strength);
      const w = focus.map(
        (f, t) => f * (1 + (open[t] ? Math.fround(beta * progress[t]) : 0))
      );
      const wHat = image[i] ? minMax(w, RELEASED_EPS) : w.map(() => 0);
      const mean = row.length ? sum(wHat) / row.length : 0;
      const psi = wHat.map((v) => clamp(1 + (v - mean), TOKEN_CLAMP) - 1);
      return { rho: rows[i], focus, tail, open, progress, w, wHat, mean, psi };
    });
    const s = shaped.map((row) => sum(row.wHat));
    const sHat = minMax(s, RELEASED_EPS);
    const sMean = sHat.length ? sum(sHat) / sHat.length : 0;
    const phi = sHat.map((v, i) =>
      image[i] ? clamp(1 + (v - sMean), TRAJECTORY_CLAMP) - 1 : 0
    );
    return { rows: shaped, s, sHat, sMean, phi, counted: image };
  }

  // Eq. 2 as TRL has it: the standard deviation of the sample, 1e-4 added.
  function groupAdvantages(rewards) {
    const mean = sum(rewards) / rewards.length;
    const squares = sum(rewards.map((r) => (r - mean) ** 2));
    const spread = rewards.length > 1 ? Math.sqrt(squares / (rewards.length - 1)) : 0;
    return rewards.map((r) => (r - mean) / (spread + REWARD_EPS));
  }

  // Everything between focus scores and the advantages of the tokens, Eq. 5-12.
  //
  // rows: focus scores of each rollout; all 0 means no image.
  // advantages: of each rollout.
  // settings: the fields of vgpo.method.visual.VGPO.
  function shape(rows, advantages, settings) {
    const factors =
      settings.variant === "released"
        ? releasedFactors(rows, settings)
        : paperFactors(rows, settings);
    if (!settings.intra) factors.rows.forEach((row) => row.psi.fill(0));
    if (!settings.inter) factors.phi.fill(0);
    const shaped = factors.rows.map((row, i) =>
      row.psi.map((psi) => advantages[i] * (1 + factors.phi[i]) * (1 + psi))
    );
    return { ...factors, advantages, shaped };
  }

  return { exactRatio, schedule, gate, groupAdvantages, shape };
})();
