"""One tick: plan, claim, start, supervise, finish."""
