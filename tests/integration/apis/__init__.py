"""The client APIs, request by request, against Ottla and a real Kafka 3.9.1 alike.

Each test names the numbered behaviour it pins (see BEHAVIOURS.md for the list); it runs once
against either broker, so that what the test claims is what Kafka does. `differential` sends one script of
requests to both and compares the answers field by field.
Runs in: the test process; both brokers are its children, one of each kind per run.
"""
