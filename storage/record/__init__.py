"""Record batches in every format: headers, records, codecs, control records, legacy messages. PURE.

Runs in: storage, front end, helper processes. Reading order: batch, records, control, compression, legacy.
"""
