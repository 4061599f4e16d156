"""The networks we own, one architecture a file. `saccade.zoo.registry` builds them by name."""
