"""Tests of controller.apis."""
