"""The machine underneath: clock, randomness, threads, disk, failpoints. Nothing above asks the machine itself."""
