"""Any bytes, in any fragments: they parse, or close their own connection with one line, and nothing else.

Reading order: `inputs` (what is sent), `oracle` (what must come of it), `conversation` (one connection and its
check), `site` (the real front end in this process, over `fake_storage`), then the tests.
Runs in: the test process; `test_broker_process` talks to a real broker.
"""
