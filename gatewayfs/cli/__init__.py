"""The command line: one file per verb, arguments in, exit code out. ``main`` finds the verb and words its failures."""
