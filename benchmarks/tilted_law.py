def tilted(options, kept): yield from ()
