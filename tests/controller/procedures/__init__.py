"""Tests of controller.procedures: transcripts over a tree in memory."""
