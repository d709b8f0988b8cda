"""The stage runner: records and ticks in, flush plans out.  Pure; the Faust worker and the simulation drive it."""
