"""A closed-form learning-rate schedule of your own: linear warmup, then inverse square root decay."""

from dataclasses import dataclass

from optuna.distributions import FloatDistribution

from ganno_bench.schedulers import ClosedForm


@dataclass(frozen=True)
class InverseSqrt(ClosedForm):
    """Linear warmup, then decay with the inverse square root of the update (Vaswani et al. 2017)."""

    warmup: float = 0.1  # share of the run

    @classmethod
    def search_space(cls):
        """Return what Optuna tunes, besides the base learning rate and the weight decay."""
        return {"warmup": FloatDistribution(0.01, 0.5, log=True)}

    def factor(self, update, total):
        """Return the number that multiplies the base learning rate."""
        peak = max(1.0, self.warmup * total)
        return min((update + 1) / peak, (peak / (update + 1)) ** 0.5)
