"""Work that would keep the interpreter lock of a serving process: recovery scans, look-ups inside batches.

Runs in: helper processes, forked by the supervisor. `main.helper_main` is their entry, `client.HelperClient`
the blocking caller; `segment_scan` and `timestamp_lookup` are plain functions.
"""
