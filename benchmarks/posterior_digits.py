def digits(options, kept): yield from ()
