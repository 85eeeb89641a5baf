"""The real things that tests run beside or against Ottla: Kafka, ZooKeeper, Java tools, and `ottla` itself.

Runs in: the test process; every server is a child process of it, in its own process group, on free
ports and in a temporary directory, and dies with the test process. Nothing here imports the broker.
"""
