"""What a solver claims, measured without a network: order, law, identity, calls, precision."""
