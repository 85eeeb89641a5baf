"""Tests of controller.metadata_store."""
