"""Open any set of weights or bundle so that its task can run it, by the fastest path that was proved equal."""
