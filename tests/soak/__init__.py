"""What holds over many jobs, processes, kills, faults and cancellations: `make soak`, `make soak-short`.

Evidence is not the SDK's: a handler's journal on the disk, and what the sandbox, in a process of its own, says
that it was asked.
"""
