"""Requests that a controller serves, one module per API key, each opened by its ledger of versions (PURE).

Authorisation, quotas and throttling are the front end's business: what arrives here is allowed.
"""
