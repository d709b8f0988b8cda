"""Events into tables: panes, sketches, session rows, rollup rows.  Pure: integer arithmetic, time is an argument."""
