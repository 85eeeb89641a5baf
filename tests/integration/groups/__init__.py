"""Groups of the classic protocol, request by request, against Ottla and a real Kafka 3.9.1 alike.

Each test names the numbered behaviour it pins; it runs once against either broker, so that what the test claims is
what Kafka does. `test_record_bytes` and `test_hand_over` compare what lies on disk.
Runs in: the test process; both brokers are its children.
"""
