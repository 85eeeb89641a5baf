"""Ottla beside a real Apache Kafka 3.9.1, on the same machine, in one run, with the same client.

Reading order: `__main__` (what one run does), `harness` (alternation and rounds), `throughput`,
`latency`, `connections`, `idle`, `startup`, `syscalls` (the workloads), `process_tree` (CPU, memory),
`report` (ratios and the table). README.md says how to run it and how to read it.
"""
