"""Transcripts: what goes into a coordinator and what comes out, line by line, on a clock that stands still."""
