"""Turns validated rows into one index per split protocol: who trains, who validates, who is tested."""
