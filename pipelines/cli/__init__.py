"""Be the command `diffuse`: verbs, options, progress, tables. The only room that prints; holds no logic of a run."""
