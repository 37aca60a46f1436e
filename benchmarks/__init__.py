"""Speed and memory against the peers, each as a ratio within one run: `make bench`."""
