"""Everything around a network, written once for every task: the loops, runtimes, pages and files."""
