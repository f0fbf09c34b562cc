"""Say what is asked for: the spec, its steps, and errors with their lines. Knows no pixels and no plan."""
