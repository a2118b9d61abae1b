"""What tells a difference from chance: the Mann-Whitney test, and confidence intervals of ratios by resampling."""

import itertools
import math
import random
import statistics

RESAMPLES, SEED = 2000, 1
EXACT_MAX = 50_000  # ways to deal the values to the two sides, up to which all are looked at
CONFIDENCE = 0.95
# Fewer cannot show a difference at 5 %: 2 of the 20 ways to deal 3 and 3 values are as far apart as any.
RUNS_MIN = 4
# Counts of the lab repeat to 0.1 %, so that few are needed: what exceeds the spread of both and this is a difference.
COUNT_NOISE = 0.003


def ranks(values):
    """Of each value, from 1; equal ones share their mean."""
    order = sorted(range(len(values)), key=values.__getitem__)
    result = [0.0] * len(values)
    for _, group in itertools.groupby(enumerate(order), key=lambda item: values[item[1]]):
        group = list(group)
        mean = sum(place for place, _ in group) / len(group) + 1
        for _, index in group:
            result[index] = mean
    return result


def mann_whitney(old, new):
    """The two-sided p of the hypothesis that both are from the same distribution: exact for few, else by the normal one."""
    rank = ranks(list(old) + list(new))
    num, total = len(old), len(rank)
    middle = num * (total + 1) / 2
    distance = abs(sum(rank[:num]) - middle)
    ways = math.comb(total, num)
    if ways <= EXACT_MAX:
        as_far = sum(abs(sum(choice) - middle) >= distance - 1e-9 for choice in itertools.combinations(rank, num))
        return as_far / ways
    ties = sum(count**3 - count for count in (rank.count(value) for value in set(rank)))
    variance = num * len(new) / 12 * (total + 1 - ties / (total * (total - 1)))
    return math.erfc(max(distance - 0.5, 0) / math.sqrt(variance) / math.sqrt(2)) if variance else 1.0


def ratio_interval(above, below):
    """The ratio of the medians, and its 95 % confidence interval by the percentile bootstrap; None where one is 0."""
    if not statistics.median(below) or not min(below):
        return None
    choose = random.Random(SEED)
    found = sorted(
        statistics.median(choose.choices(above, k=len(above))) / statistics.median(choose.choices(below, k=len(below)))
        for _ in range(RESAMPLES)
    )
    tail = int(RESAMPLES * (1 - CONFIDENCE) / 2)
    return statistics.median(above) / statistics.median(below), found[tail], found[-1 - tail]


def differ(old, new, unit):
    """Whether the medians differ by more than chance: True, False, or None where there are too few runs to tell."""
    before, now = statistics.median(old), statistics.median(new)
    if min(len(old), len(new)) >= RUNS_MIN:
        return mann_whitney(old, new) < 1 - CONFIDENCE
    if unit == "ns":
        return None
    spread = max(max(old) - min(old), max(new) - min(new))
    return abs(now - before) > max(spread, COUNT_NOISE * abs(before))
