"""The crash sweep: rollouts in a simulated world, killed and misled at every write, and what must hold all the same.

`world` is the world: a clock, a store, a registry, servers, hosts of the loop. `faults` spoils one write of a host in
one way. `scenarios` are the stories. `invariants` watches every write. `runs` makes the list of runs and lives through
one of them. ``python -m crash_sweep`` runs all, and replays one by its name.
"""
