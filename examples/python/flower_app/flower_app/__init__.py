"""A Flower app whose server sees no single update."""
