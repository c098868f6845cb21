"""A learning-rate schedule of one's own: linear warmup, then inverse square root decay (Vaswani et al. 2017)."""

from dataclasses import dataclass

from optuna.distributions import FloatDistribution

from ganno_bench.schedulers import ClosedForm


@dataclass(frozen=True)
class InverseSqrt(ClosedForm):
    """Linear warmup, then decay with the inverse square root of the update."""

    warmup: float = 0.1  # share of the run

    @classmethod
    def search_space(cls):
        """Return what is tuned besides the base learning rate and weight decay."""
        return {"warmup": FloatDistribution(0.01, 0.5, log=True)}

    def factor(self, update, total):
        """Return the multiple of the base learning rate."""
        peak = max(1.0, self.warmup * total)
        return min((update + 1) / peak, (peak / (update + 1)) ** 0.5)
