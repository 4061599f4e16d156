"""From names to networks: the registry, published weights, sparse forms of other libraries' networks."""
