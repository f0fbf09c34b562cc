"""Let times and parameters of a spec choose themselves from samples of its source, before the plan. Never writes."""
