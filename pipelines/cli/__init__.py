"""The command `diffuse`: verbs, options, progress, tables. The only folder that prints; it holds no logic of a run."""
