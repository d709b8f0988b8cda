"""Callbacks for agent frameworks; each needs its framework installed, and none is imported by anything else."""
