"""Paired comparisons: Student's t, Holm's correction, and the seeds that would decide."""
import math
import statistics

ALPHA = 0.05
# The most further seeds that are looked at.
MOST = 1000


def tail(t: float, df: int) -> float:
    """P(|T| >= |t|) of Student's t with `df` degrees of freedom: I_x(df/2, 1/2) at x = df/(df + t^2)."""
    return incomplete_beta(df / 2, 0.5, df / (df + t * t))


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularized incomplete beta function I_x(a, b) by its continued fraction (Lentz's method)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 1000):
        for numerator in (
                m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
                -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))):
            d = 1 / (1 + numerator * d)
            c = 1 + numerator / c
            value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * value


def quantile(df: int, alpha: float = ALPHA) -> float:
    """The t with P(|T| >= t) = alpha: 12.706, 4.303, 2.262 for 1, 2, 9 degrees of freedom."""
    low, high = 0.0, 1e6
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle, df) > alpha else (low, middle)
    return high


def summary(values):
    """Number, mean and, for two values or more, sample standard deviation."""
    return {
        "n": len(values), "mean": statistics.fmean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else None}


def paired(arm, baseline):
    """The difference over the seeds that both have (seed -> value), its 95 % interval and p; None if there are none."""
    seeds = sorted(arm.keys() & baseline.keys())
    if not seeds:
        return None
    found = summary([arm[seed] - baseline[seed] for seed in seeds])
    half = None if found["sd"] is None else quantile(found["n"] - 1) * found["sd"] / math.sqrt(found["n"])
    interval = {"low": None, "high": None} if half is None else {
        "low": found["mean"] - half, "high": found["mean"] + half}
    return {**found, **interval, "p": p_value(found)}


def p_value(difference, more: int = 0):
    """The two-sided p of a difference, as it would be with `more` further seeds of this mean and spread."""
    n, mean, sd = difference["n"] + more, difference["mean"], difference["sd"]
    if sd is None:
        return None
    if sd == 0:
        return float(mean == 0)
    return tail(mean * math.sqrt(n) / sd, n - 1)


def holm(ps):
    """Holm's adjusted p of each name; None, of a comparison that cannot be made yet, counts in their number."""
    adjusted, least = {}, 0.0
    for place, name in enumerate(sorted(ps, key=lambda name: 1.0 if ps[name] is None else ps[name])):
        if ps[name] is None:
            adjusted[name] = None
        else:
            least = adjusted[name] = max(least, min(1.0, ps[name] * (len(ps) - place)))
    return adjusted


def judge(differences):
    """Adds to each comparison (name -> `paired`, or None) Holm's p over all, the verdict, and the further seeds for all
    arms with which this one would be decided if means and spreads stayed as they are (None: more than `MOST`)."""
    def adjusted(more):
        return holm({name: found and p_value(found, more) for name, found in differences.items()})

    now, most = adjusted(0), adjusted(MOST)
    for name, found in differences.items():
        if found is None or found["p"] is None:
            continue
        found["p_holm"], more = now[name], 0
        decided = now[name] < ALPHA
        found["verdict"] = ("above" if found["mean"] > 0 else "below") if decided else "open"
        if not decided:
            # p falls with every seed, so that the number can be found by halving.
            low, more = 0, None if most[name] >= ALPHA else MOST
            while more and more - low > 1:
                middle = (low + more) // 2
                low, more = (low, middle) if adjusted(middle)[name] < ALPHA else (middle, more)
        found["more_seeds"] = more
