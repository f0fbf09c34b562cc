"""Define and check the spec, its steps, and its errors with their lines. Knows no pixels and no plan."""
